// Smoke test with ioredis: PORT.
const assert = require("node:assert");
const Redis = require("ioredis");

async function main() {
  const redis = new Redis({ port: Number(process.argv[2]), maxRetriesPerRequest: 1 });
  redis.on("error", (error) => { console.error(error); process.exit(1); });
  assert.equal(await redis.ping(), "PONG");
  assert.equal(await redis.set("k", "v", "EX", 100), "OK");
  assert.equal(await redis.get("k"), "v");
  assert.equal(await redis.set("k", "w", "NX"), null);
  assert.equal(await redis.ttl("k"), 100);
  assert.deepEqual(await redis.getBuffer("k"), Buffer.from("v"));
  assert.equal(await redis.mset("a", 1, "b", 2), "OK");
  assert.deepEqual(await redis.mget("a", "b", "none"), ["1", "2", null]);
  assert.equal(await redis.incrby("a", 41), 42);
  assert.equal(await redis.append("k", "w"), 2);

  const pipeline = redis.pipeline();
  for (let n = 0; n < 1000; n++) pipeline.set(`scan:${n}`, n);
  const answers = await pipeline.exec();
  assert.ok(answers.every(([error, answer]) => error === null && answer === "OK"));
  const found = new Set();
  for await (const keys of redis.scanStream({ match: "scan:*", count: 100 })) {
    keys.forEach((key) => found.add(key));
  }
  assert.equal(found.size, 1000);

  assert.deepEqual(await redis.multi().set("t", 1).incr("t").exec(), [[null, "OK"], [null, 2]]);
  await assert.rejects(redis.incr("k"), /not an integer/);
  assert.equal(await redis.del("a", "b", "none"), 2);
  assert.match(await redis.info("server"), /redis_version:/);
  const big = "x".repeat(1 << 20);
  await redis.set("big", big);
  assert.equal(await redis.get("big"), big);
  await redis.quit();
  console.log("ioredis", require("ioredis/package.json").version);
}

main().catch((error) => { console.error(error); process.exit(1); });
