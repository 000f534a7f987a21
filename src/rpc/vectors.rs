//! Calls about vectors: from the wire to `op`, checked, and answers to the wire.

use crate::base::{Error, Result};
use crate::op::kv::Write;
use crate::op::vector::search::VectorHit;
use crate::op::vector::{
    FETCH_MAX, Filter, Floats, IndexInfo, IndexKind, IndexSpec, Metric, Quantisation, StoredVector,
    TextQuery, VectorAnswer, VectorCall, VectorId, VectorQuery, VectorSearch, VectorsFound,
};
use crate::op::{Request, Response};
use crate::rpc::answer::unfitting;
use crate::rpc::pb;
use crate::rpc::request::request_id;
use crate::rpc::status::shortened;

fn request(call: VectorCall) -> Request {
    Request::Vector(Box::new(call))
}

/// A CreateVectorIndex.
pub fn create(r: pb::CreateVectorIndexRequest) -> Result<Request> {
    let config = r.config.ok_or_else(|| Error::invalid("config is missing: give at least dim"))?;
    let spec = spec(r.index_name, &config)?;
    spec.check_name()?;
    Ok(request(VectorCall::Create(spec)))
}

/// How an index is to be made, or is, from the wire.
pub(super) fn spec(name: String, config: &pb::VectorIndexConfig) -> Result<IndexSpec> {
    let unknown = |field: &str, number: i32| {
        Error::invalid(format!("{field} has the number {number}, which this version does not know"))
    };
    use pb::{VectorDistanceMetric as M, VectorIndexKind as K, VectorQuantisation as Q};
    let metric = match M::try_from(config.metric) {
        Ok(M::Unspecified | M::VectorL2) => Metric::L2,
        Ok(M::VectorCosine) => Metric::Cosine,
        Ok(M::VectorInnerProduct) => Metric::InnerProduct,
        Err(_) => return Err(unknown("config.metric", config.metric)),
    };
    let kind = match K::try_from(config.kind) {
        Ok(K::Unspecified) => IndexKind::Auto,
        Ok(K::VectorHnsw) => IndexKind::Hnsw,
        Ok(K::VectorPqHnsw) => IndexKind::PqHnsw,
        Ok(K::VectorDiskHnsw) => IndexKind::DiskHnsw,
        Ok(K::VectorSpfresh) => IndexKind::Spfresh,
        Err(_) => return Err(unknown("config.kind", config.kind)),
    };
    let quantisation = match Q::try_from(config.quantisation) {
        Ok(Q::Unspecified) => Quantisation::None,
        Ok(Q::VectorPacked) => Quantisation::Packed,
        Ok(Q::VectorCompact4) => Quantisation::Compact4,
        Ok(Q::VectorCompact8) => Quantisation::Compact8,
        Err(_) => return Err(unknown("config.quantisation", config.quantisation)),
    };
    let spec = IndexSpec {
        kind,
        quantisation,
        m: config.m,
        ef_construction: config.ef_construction,
        ef_search: config.ef_search,
        num_sub: config.num_sub,
        rerank_k: config.rerank_k,
        ..IndexSpec::new(name, config.dim, metric)
    };
    Ok(spec.with_defaults())
}

/// How an index is made, as the wire has it.
pub fn config(spec: &IndexSpec) -> pb::VectorIndexConfig {
    use pb::{VectorDistanceMetric as M, VectorIndexKind as K, VectorQuantisation as Q};
    let metric = match spec.metric {
        Metric::L2 => M::VectorL2,
        Metric::Cosine => M::VectorCosine,
        Metric::InnerProduct => M::VectorInnerProduct,
    };
    let kind = match spec.kind {
        IndexKind::Auto => K::Unspecified,
        IndexKind::Hnsw => K::VectorHnsw,
        IndexKind::PqHnsw => K::VectorPqHnsw,
        IndexKind::DiskHnsw => K::VectorDiskHnsw,
        IndexKind::Spfresh => K::VectorSpfresh,
    };
    let quantisation = match spec.quantisation {
        Quantisation::None => Q::Unspecified,
        Quantisation::Packed => Q::VectorPacked,
        Quantisation::Compact4 => Q::VectorCompact4,
        Quantisation::Compact8 => Q::VectorCompact8,
    };
    pb::VectorIndexConfig {
        dim: spec.dim,
        metric: metric as i32,
        m: spec.m,
        ef_construction: spec.ef_construction,
        ef_search: spec.ef_search,
        kind: kind as i32,
        quantisation: quantisation as i32,
        num_sub: spec.num_sub,
        rerank_k: spec.rerank_k,
    }
}

/// A DropVectorIndex.
pub fn drop_index(r: pb::DropVectorIndexRequest) -> Result<Request> {
    Ok(request(VectorCall::Drop { index: r.index_name }))
}

/// A ListVectorIndexes.
pub fn list() -> Result<Request> {
    Ok(request(VectorCall::List))
}

/// A DescribeVectorIndex.
pub fn describe(r: pb::DescribeVectorIndexRequest) -> Result<Request> {
    Ok(request(VectorCall::Describe { index: r.index_name }))
}

/// A VerifyVectorIndex.
pub fn verify(r: pb::VerifyVectorIndexRequest) -> Result<Request> {
    Ok(request(VectorCall::Verify { index: r.index_name }))
}

/// A VectorPut.
pub fn put(r: pb::VectorPutRequest) -> Result<Request> {
    let id = request_id(r.request_id)?;
    let write = put_write(r.index_name, r.vector_id, &r.vector, r.payload);
    Ok(Request::Write { writes: vec![write], id })
}

/// A vector set.
pub fn put_write(index: String, id: u64, vector: &[f32], payload: String) -> Write {
    Write::PutVector {
        index,
        id: VectorId::new(id),
        vector: Floats::of(vector),
        payload: payload.into_bytes().into(),
    }
}

/// A VectorDelete.
pub fn delete(r: pb::VectorDeleteRequest) -> Result<Request> {
    let id = request_id(r.request_id)?;
    let write = Write::DeleteVector { index: r.index_name, id: VectorId::new(r.vector_id) };
    Ok(Request::Write { writes: vec![write], id })
}

/// A VectorGet.
pub fn get(r: pb::VectorGetRequest) -> Result<Request> {
    let mut ids = r.vector_ids;
    if ids.is_empty() {
        ids.push(r.vector_id);
    } else if r.vector_id != 0 {
        return Err(Error::invalid("give vector_id or vector_ids, not both"));
    }
    if ids.len() > FETCH_MAX {
        let message = format!("vector_ids has {} ids; at most {FETCH_MAX} at a time", ids.len());
        return Err(Error::invalid(message));
    }
    let ids = ids.into_iter().map(VectorId::new).collect();
    Ok(request(VectorCall::Get { index: r.index_name, ids }))
}

/// A VectorSearch.
pub fn search(r: pb::VectorSearchRequest) -> Result<Request> {
    let query = match r.near_id {
        Some(_) if !r.query.is_empty() => {
            return Err(Error::invalid("give query or near_id, not both"));
        }
        Some(id) => VectorQuery::Stored(VectorId::new(id)),
        None => VectorQuery::Vector(Floats::of(&r.query)),
    };
    let is_nan = |limit: Option<f32>| limit.is_some_and(f32::is_nan);
    if is_nan(r.distance_max) || is_nan(r.score_min) {
        return Err(Error::invalid("distance_max and score_min must be numbers"));
    }
    let filter = match r.filter.as_str() {
        "" => None,
        text => Some(Filter::parse(text)?),
    };
    let text = match (r.text, r.text_field) {
        (text, field) if text.is_empty() && field.is_empty() => None,
        (text, field) if text.is_empty() || field.is_empty() => {
            return Err(Error::invalid("text and text_field are given together, or neither is"));
        }
        (text, field) => Some(TextQuery { field, text, is_part: false }),
    };
    Ok(request(VectorCall::Search(VectorSearch {
        index: r.index_name,
        query,
        k: r.k,
        offset: r.offset,
        ef: r.ef_search,
        exact: r.exact,
        filter,
        text,
        distance_max: r.distance_max,
        score_min: r.score_min,
        without: None,
        with_payload: r.with_payload,
        with_vector: r.with_vector,
        with_seq: false,
    })))
}

/// A VectorWalk.
pub fn walk(r: pb::VectorWalkRequest) -> Result<Request> {
    Ok(request(VectorCall::Walk { index: r.index_name, after: r.after_id, limit: r.limit }))
}

fn answer(response: Response, asked: &str) -> Result<VectorAnswer> {
    match response {
        Response::Vector(answer) => Ok(*answer),
        other => Err(unfitting(asked, &other)),
    }
}

fn wrong(asked: &str) -> Error {
    let message = format!("the server gave another answer about vectors to {asked}");
    Error::new(crate::base::ErrorKind::Internal, message)
}

fn index_of(response: Response, asked: &str) -> Result<pb::VectorIndex> {
    match answer(response, asked)? {
        VectorAnswer::Index(info) => Ok(index(&info)),
        _ => Err(wrong(asked)),
    }
}

fn index(info: &IndexInfo) -> pb::VectorIndex {
    pb::VectorIndex {
        index_name: info.spec.name.clone(),
        config: Some(config(&info.spec)),
        vectors: info.vectors,
        waiting: info.waiting,
        fresh: info.fresh,
        sealed: info.sealed,
        segments: info.segments,
        dead: info.dead,
        memory_bytes: info.memory_bytes,
        disk_bytes: info.disk_bytes,
        rebuilt: info.rebuilt,
        postings: info.postings,
        nodes: info.nodes.clone(),
    }
}

/// Of a CreateVectorIndex.
pub fn created(response: Response) -> Result<pb::CreateVectorIndexResponse> {
    let index = index_of(response, "the creation of an index")?;
    Ok(pb::CreateVectorIndexResponse { index: Some(index) })
}

/// Of a DropVectorIndex.
pub fn dropped(response: Response) -> Result<pb::DropVectorIndexResponse> {
    match answer(response, "the drop of an index")? {
        VectorAnswer::Done => Ok(pb::DropVectorIndexResponse {}),
        _ => Err(wrong("the drop of an index")),
    }
}

/// Of a ListVectorIndexes.
pub fn listed(response: Response) -> Result<pb::ListVectorIndexesResponse> {
    match answer(response, "the list of indexes")? {
        VectorAnswer::Indexes(all) => {
            Ok(pb::ListVectorIndexesResponse { indexes: all.iter().map(index).collect() })
        }
        _ => Err(wrong("the list of indexes")),
    }
}

/// Of a DescribeVectorIndex.
pub fn described(response: Response) -> Result<pb::DescribeVectorIndexResponse> {
    let index = index_of(response, "a description")?;
    Ok(pb::DescribeVectorIndexResponse { index: Some(index) })
}

/// Of a VerifyVectorIndex.
pub fn verified(response: Response) -> Result<pb::VerifyVectorIndexResponse> {
    match answer(response, "a check")? {
        VectorAnswer::Checked(checked) => Ok(pb::VerifyVectorIndexResponse {
            stored: checked.stored,
            missing: checked.missing,
            surplus: checked.surplus,
        }),
        _ => Err(wrong("a check")),
    }
}

fn stored(vector: StoredVector) -> pb::StoredVector {
    pb::StoredVector {
        vector_id: vector.id,
        vector: vector.vector.to_vec(),
        payload: text(&vector.payload),
    }
}

/// JSON, checked when it was written.
fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

/// Of a VectorGet; `several` says whether it named several ids.
pub fn got(several: bool, response: Response) -> Result<pb::VectorGetResponse> {
    let VectorAnswer::Vectors(vectors) = answer(response, "a fetch of vectors")? else {
        return Err(wrong("a fetch of vectors"));
    };
    if several {
        let vectors = vectors.into_iter().flatten().map(stored).collect();
        return Ok(pb::VectorGetResponse { vectors, ..Default::default() });
    }
    Ok(match vectors.into_iter().flatten().next() {
        Some(vector) => pb::VectorGetResponse {
            found: true,
            payload: text(&vector.payload),
            vector: vector.vector.to_vec(),
            vectors: Vec::new(),
        },
        None => pb::VectorGetResponse::default(),
    })
}

/// Of a VectorSearch.
pub fn found(response: Response) -> Result<pb::VectorSearchResponse> {
    let VectorAnswer::Found(VectorsFound { hits, cost, .. }) = answer(response, "a search")? else {
        return Err(wrong("a search"));
    };
    let result = |hit: VectorHit| pb::VectorResult {
        id: hit.id,
        distance: hit.distance,
        payload: hit.payload.map(|payload| text(&payload)).unwrap_or_default(),
        vector: hit.vector.map(|vector| vector.to_vec()).unwrap_or_default(),
        score: hit.score,
    };
    let cost = pb::VectorSearchCost {
        distances: cost.distances,
        estimates: cost.estimates,
        hops: cost.hops,
        fetched: cost.fetched,
        matches: cost.matches,
        micros: cost.micros,
        exact: cost.exact,
        pages: cost.pages,
    };
    let results = hits.into_iter().map(result).collect();
    Ok(pb::VectorSearchResponse { results, cost: Some(cost) })
}

/// Of one search of several.
pub fn outcome(response: Result<Response>) -> pb::VectorSearchOutcome {
    match response.and_then(found) {
        Ok(answer) => pb::VectorSearchOutcome { answer: Some(answer), ..Default::default() },
        Err(error) => pb::VectorSearchOutcome {
            answer: None,
            error_kind: error.kind().name().to_string(),
            message: shortened(error.message()),
        },
    }
}

/// Of a VectorWalk.
pub fn walked(response: Response) -> Result<pb::VectorWalkResponse> {
    match answer(response, "a walk")? {
        VectorAnswer::Page { vectors, next } => Ok(pb::VectorWalkResponse {
            vectors: vectors.into_iter().map(stored).collect(),
            next_after_id: next,
        }),
        _ => Err(wrong("a walk")),
    }
}
