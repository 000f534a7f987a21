//! Units of systemd for the processes of a topology.

use crate::cli::cluster::up::topology::{Part, Topology};
use crate::cli::settings::Role;

/// All units, each under a line with its file.
pub fn text(topology: &Topology, program: &str) -> String {
    let Topology { name, shards, replicas, .. } = topology;
    let meta: Vec<String> = topology.meta().iter().map(|at| format!("http://{at}")).collect();
    let mut text = format!(
        "# Write each part to its file, on the machine that it is for, and enable it there:\n\
         #   systemctl daemon-reload && systemctl enable --now arqon-NAME\n\
         # Then, once, anywhere:\n\
         #   arqon cluster init --name {} --shards {shards} --replicas {replicas} --meta {}\n",
        quoted(name),
        meta.join(",")
    );
    for part in &topology.parts {
        text.push_str(&unit(topology, part, program));
    }
    text
}

fn unit(topology: &Topology, part: &Part, program: &str) -> String {
    let Part { name, role, args, .. } = part;
    let what = match role {
        Role::Meta => "metadata server",
        Role::Node => "node",
        _ => "gateway",
    };
    // A node hands over what it leads before it ends.
    let command: Vec<String> =
        std::iter::once(program).chain(args.iter().map(String::as_str)).map(quoted).collect();
    format!(
        "\n# /etc/systemd/system/arqon-{name}.service\n\
         [Unit]\n\
         Description=ArqonDB {what} {name} of {cluster}\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         ExecStart={command}\n\
         KillSignal=SIGTERM\n\
         TimeoutStopSec=60\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         LimitNOFILE=65536\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        cluster = topology.name,
        command = command.join(" "),
    )
}

/// A word of a command line as systemd reads it.
fn quoted(word: &str) -> String {
    let escaped = word.replace('%', "%%").replace('$', "$$");
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:,=%$[]".contains(&b);
    if !escaped.is_empty() && escaped.bytes().all(is_plain) {
        return escaped;
    }
    format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_unit_starts_what_the_topology_says() {
        let text = "[cluster]\nname = \"prod\"\nstate = \"/srv/my arqon\"\n[[meta]]\n[[node]]\n";
        let topology = Topology::parse(Path::new("/etc/t.toml"), text).unwrap();
        let units = super::text(&topology, "/usr/bin/arqon");
        for line in [
            "# /etc/systemd/system/arqon-meta-1.service",
            "Description=ArqonDB node node-1 of prod",
            "ExecStart=/usr/bin/arqon meta --listen 127.0.0.1:8379 --dir \"/srv/my arqon/meta-1\" \
             --addr http://127.0.0.1:8379",
            "#   arqon cluster init --name prod --shards 8 --replicas 1 --meta http://127.0.0.1:8379",
        ] {
            assert!(units.lines().any(|l| l == line), "{line}\n{units}");
        }
        assert_eq!(quoted("100%"), "100%%");
        assert_eq!(quoted("a\"b\\"), "\"a\\\"b\\\\\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
