"""Smoke test with stubs that grpcio-tools makes from proto/arqondb.proto: PORT STUBS_FOLDER."""
import sys

import grpc
from grpc_tools import protoc

port, folder = sys.argv[1:]
assert protoc.main(["", "-Iproto", f"--python_out={folder}", f"--grpc_python_out={folder}",
                    "proto/arqondb.proto"]) == 0
sys.path.insert(0, folder)
import arqondb_pb2 as pb  # noqa: E402
import arqondb_pb2_grpc  # noqa: E402

channel = grpc.insecure_channel(f"127.0.0.1:{port}")
db = arqondb_pb2_grpc.ArqonDbStub(channel)


def call(method, request):
    return getattr(db, method)(request, timeout=20)


assert call("Ping", pb.PingRequest()).version
assert not call("Get", pb.GetRequest(key=b"absent")).found
put = call("Put", pb.PutRequest(key=b"k", value=b"\x00v"))
got = call("Get", pb.GetRequest(key=b"k"))
assert put.applied and got.found and got.value == b"\x00v" and got.seq == put.seq
swapped = call("CasPut", pb.CasPutRequest(key=b"k", value=b"w", expected_seq=put.seq))
refused = call("CasPut", pb.CasPutRequest(key=b"k", value=b"x", expected_seq=put.seq))
assert swapped.applied and not refused.applied
assert refused.value == b"w" and refused.seq == swapped.seq

family = call("CreateColumnFamily", pb.CreateColumnFamilyRequest(name="notes")).column_family
ops = [pb.WriteOp(put=pb.PutOp(cf=family.cf, key=b"n:%04d" % n, value=b"%d" % n))
       for n in range(1000)]
ops.append(pb.WriteOp(merge=pb.MergeOp(key=b"k", operand=b"!", merge_operator=pb.MERGE_APPEND)))
call("BatchWrite", pb.BatchWriteRequest(ops=ops))
assert call("Get", pb.GetRequest(key=b"k")).value == b"w!"
keys, cursor = [], b""
while True:
    page = call("Scan", pb.ScanRequest(cf=family.cf, prefix=b"n:", limit=300, cursor=cursor))
    keys += [entry.key for entry in page.entries]
    cursor = page.next_cursor
    if not cursor:
        break
assert keys == [b"n:%04d" % n for n in range(1000)], len(keys)
prefix = pb.DeleteByPrefixRequest(cf=family.cf, prefix=b"n:00")
assert call("DeleteByPrefix", prefix).deleted == 100
listed = call("ListColumnFamilies", pb.ListColumnFamiliesRequest()).column_families
assert "notes" in [family.name for family in listed]
call("DropColumnFamily", pb.DropColumnFamilyRequest(cf=family.cf))
try:
    call("Get", pb.GetRequest(cf=family.cf, key=b"n:0500"))
    raise AssertionError("a dropped column family answers")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error

call("CreateVectorIndex", pb.CreateVectorIndexRequest(
    index_name="embeddings", config=pb.VectorIndexConfig(dim=128, metric=pb.VECTOR_L2)))
vectors = [[float((i * 7 + j) % 31) for j in range(128)] for i in range(200)]
for i, vector in enumerate(vectors[:100]):
    call("VectorPut", pb.VectorPutRequest(index_name="embeddings", vector_id=i, vector=vector))
stream = (pb.VectorBatchPutRequest(index_name="embeddings", vector_id=i, vector=vectors[i])
          for i in range(100, 200))
put = call("VectorBatchPut", stream)
assert put.written == 100 and not put.errors, put
results = call("VectorSearch", pb.VectorSearchRequest(
    index_name="embeddings", query=vectors[150], k=10)).results
assert len(results) == 10 and results[0].distance == 0, results
assert all(a.distance <= b.distance for a, b in zip(results, results[1:]))
got = call("VectorGet", pb.VectorGetRequest(index_name="embeddings", vector_id=results[0].id))
assert got.found and list(got.vector) == vectors[150]
call("VectorDelete", pb.VectorDeleteRequest(index_name="embeddings", vector_id=results[0].id))
again = call("VectorSearch", pb.VectorSearchRequest(
    index_name="embeddings", query=vectors[150], k=10)).results
assert results[0].id not in [result.id for result in again]
colours = ["red", "green", "blue"]
ops = [pb.WriteOp(vector_put=pb.VectorPutOp(
    index_name="embeddings", vector_id=i, vector=vectors[i],
    payload='{"colour": "%s"}' % colours[i % 3])) for i in range(30)]
ops.append(pb.WriteOp(put=pb.PutOp(key=b"beside", value=b"vectors")))
call("BatchWrite", pb.BatchWriteRequest(ops=ops))
searches = [pb.VectorSearchRequest(index_name="embeddings", query=vectors[n], k=20,
                                   with_payload=True, filter='{"colour": "green"}')
            for n in range(5)]
searches.append(pb.VectorSearchRequest(index_name="embeddings", query=[1.0], k=1))
outcomes = call("VectorBatchSearch", pb.VectorBatchSearchRequest(searches=searches)).outcomes
for outcome in outcomes[:5]:
    green = outcome.answer.results
    assert sorted(r.id for r in green) == list(range(1, 30, 3)), outcome
    assert all(r.payload == '{"colour": "green"}' for r in green), green
assert outcomes[5].error_kind == "invalid_argument", outcomes[5]
near = call("VectorSearch", pb.VectorSearchRequest(index_name="embeddings", near_id=4, k=3))
assert len(near.results) == 3 and 4 not in [r.id for r in near.results], near
try:
    call("VectorPut", pb.VectorPutRequest(index_name="embeddings", vector_id=1, vector=[1.0]))
    raise AssertionError("a vector of another dimension is taken")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
call("DropVectorIndex", pb.DropVectorIndexRequest(index_name="embeddings"))

call("Delete", pb.DeleteRequest(key=b"k"))
assert not call("Get", pb.GetRequest(key=b"k")).found
channel.close()
print("grpcio", grpc.__version__)
