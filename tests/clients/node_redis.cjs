// Smoke test with node-redis: PORT. RESP3, its default since 6, and RESP2.
const assert = require("node:assert");
const { createClient } = require("redis");

async function main(RESP) {
  const client = createClient({
    url: `redis://127.0.0.1:${process.argv[2]}`,
    socket: { reconnectStrategy: false },
    ...(RESP ? { RESP } : {}),
  });
  client.on("error", (error) => { console.error(error); process.exit(1); });
  await client.connect();
  await client.flushAll();
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.set("k", "v", { expiration: { type: "EX", value: 100 } }), "OK");
  assert.equal(await client.get("k"), "v");
  assert.equal(await client.set("k", "w", { condition: "NX" }), null);
  assert.equal(await client.ttl("k"), 100);
  assert.equal(await client.mSet({ a: "1", b: "2" }), "OK");
  assert.deepEqual(await client.mGet(["a", "b", "none"]), ["1", "2", null]);
  assert.equal(await client.incrBy("a", 41), 42);
  await Promise.all(Array.from({ length: 1000 }, (_, n) => client.set(`scan:${n}`, `${n}`)));
  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: "scan:*", COUNT: 100 })) {
    [keys].flat().forEach((key) => found.add(key));
  }
  assert.equal(found.size, 1000);
  assert.deepEqual(await client.multi().set("t", "1").incr("t").exec(), ["OK", 2]);
  await assert.rejects(client.incr("k"), /not an integer/);
  assert.equal(await client.del(["a", "b", "none"]), 2);
  assert.ok(await client.dbSize() > 1000);
  await client.close();
}

main()
  .then(() => main(3))
  .then(() => main(2))
  .then(() => console.log("node-redis", require("redis/package.json").version))
  .catch((error) => { console.error(error); process.exit(1); });
