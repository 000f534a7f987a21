//! What topology files are understood as, and what is said of those that are wrong.

use super::*;

fn parse(text: &str) -> Outcome<Topology> {
    Topology::parse(Path::new("/t/topology.toml"), text)
}

fn command(topology: &Topology, part: &str) -> String {
    topology.parts.iter().find(|p| p.name == part).unwrap().args.join(" ")
}

#[test]
fn the_sample_is_a_cluster() {
    let topology = parse(SAMPLE).unwrap();
    assert_eq!((topology.shards, topology.replicas), (8, 3));
    assert_eq!(topology.state, Path::new("/t/./arqon-cluster"));
    let names: Vec<&str> = topology.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["meta-1", "node-1", "node-2", "node-3", "gateway-1"]);
    assert_eq!(
        command(&topology, "node-2"),
        "node --data-listen 127.0.0.1:7479 --raft-listen 127.0.0.1:7480 --dir \
         /t/./arqon-cluster/node-2 --meta http://127.0.0.1:8379 --labels zone=b --raft-addr \
         127.0.0.1:7480"
    );
    assert_eq!(topology.meta(), ["127.0.0.1:8379"]);
}

#[test]
fn a_file_that_says_little_is_completed() {
    let text = "[cluster]\nallow_remote = true\nconfig = \"all.toml\"\n\
                [[meta]]\n[[meta]]\n[[meta]]\naddr = \"http://10.0.0.9:8379\"\n\
                listen = \"0.0.0.0:8379\"\n[[node]]\nmemory = \"1GiB\"\nredis_addr = \
                \"127.0.0.1:6400\"\n";
    let topology = parse(text).unwrap();
    let peers = "http://127.0.0.1:8379,http://127.0.0.1:8380,http://10.0.0.9:8379";
    assert_eq!(
        command(&topology, "meta-3"),
        format!(
            "meta --listen 0.0.0.0:8379 --dir /t/arqon-cluster/meta-3 --addr http://10.0.0.9:8379 \
             --config /t/all.toml --allow-remote --peers {peers}"
        )
    );
    let node = command(&topology, "node-1");
    assert!(node.contains(&format!("--meta {peers} ")), "{node}");
    assert!(node.contains("--memory 1GiB --raft-addr 127.0.0.1:7380 --config"), "{node}");
    assert_eq!(topology.parts[3].listens.len(), 3);
    assert_eq!((topology.name.as_str(), topology.replicas), ("arqon", 1));
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_was_meant() {
    let whole = "[[meta]]\n[[node]]\n";
    for (text, message, fix) in [
        ("[cluster]\nnmae = \"x\"\n", ":2: [cluster] has no \"nmae\"", "did you mean name?"),
        ("[cluster]\nshards = 0\n", ":2: shards cannot be 0", "give a whole number"),
        ("[clutser]\n", ":1: there is no \"clutser\"", "did you mean cluster?"),
        ("[quorum]\n", ":1: there is no \"quorum\"", "[[gateway]]"),
        ("[gateway]\n", ":1: there may be several of gateway", "[[gateway]]"),
        ("cluster = 1\n", ":1: cluster is a table", "[cluster]"),
        (
            "[[node]]\ndata_lisen = \"127.0.0.1:1\"\n",
            ":2: [[node]] has no \"data_lisen\"",
            "data_listen",
        ),
        ("[[node]]\ndata_listen = \"nowhere\"\n", ":2: data_listen cannot be", "an address"),
        (
            "[[node]]\nmeta = [\"http://127.0.0.1:1\"]\n",
            ":2: meta is not said of one",
            "leave it out",
        ),
        (
            "[[gateway]]\njwt_secret = \"x\"\n",
            ":2: jwt_secret is a secret",
            "ARQON_GATEWAY_JWT_SECRET",
        ),
        ("[[gateway]]\nusers = \"a:b:admin\"\n", ":2: users is a secret", "ARQON_GATEWAY_USERS"),
        ("[[node]]\ndata_listen = \"127.0.0.1:0\"\n", "node-2 listens on any port", "name a port"),
        ("[[node]]\nraft_listen = \"0.0.0.0:7480\"\n", "where others cannot reach it", "raft_addr"),
        (
            "[[node]]\ndata_listen = \"127.0.0.1:7380\"\n",
            "node-2 listens on 127.0.0.1:7380, as node-1",
            "its own port",
        ),
        ("[[meta]]\n", "there are 2 metadata servers", "one, three or five"),
        ("[cluster]\nreplicas = 3\n", "3 replicas, and there are 1 nodes", "more [[node]]"),
        ("[cluster\n", ":1: ", "no TOML"),
    ] {
        // What stands before keeps its lines; tables of a kind follow one another.
        let text = match text.starts_with("[[") {
            true => format!("{whole}{text}")
                .replace("[[meta]]\n[[node]]\n[[meta]]", "[[meta]]\n[[meta]]\n[[node]]"),
            false => format!("{text}{whole}"),
        };
        let failure = parse(&text).unwrap_err();
        let lines = message.strip_prefix(':').and_then(|m| m.split_once(": "));
        let expected = match lines {
            Some((line, rest)) if text.starts_with(whole) => {
                format!(":{}: {rest}", line.parse::<usize>().unwrap() + 2)
            }
            _ => message.to_string(),
        };
        assert!(failure.message.contains(&expected), "{text}\n{} not {expected}", failure.message);
        assert!(failure.fix.as_deref().unwrap_or("").contains(fix), "{text}\n{:?}", failure.fix);
    }
    let failure = parse("").unwrap_err();
    assert!(failure.message.contains("there are 0 metadata servers"), "{}", failure.message);
}
