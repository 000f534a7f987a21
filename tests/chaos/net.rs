//! Hosts of their own for nodes: network namespaces on a bridge. A host is cut off from another by
//! sending what is meant for it to a hardware address that nobody has: it is lost in silence, in
//! that direction alone.

use std::process::{Command, Stdio};

/// The hosts; gone when they are let go of.
pub(crate) struct Net {
    /// What the names begin with: short, as names of devices are.
    name: String,
    hosts: usize,
    /// The third number of the addresses.
    subnet: u8,
}

/// An address of a network card that is not there.
const NOBODY: &str = "02:00:00:00:00:aa";

fn ip(args: &str) -> Result<(), String> {
    let output = Command::new("ip").args(args.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("ip: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Net {
    /// So many hosts, or why there can be none here.
    pub(crate) fn new(hosts: usize) -> Result<Net, String> {
        let id = std::process::id();
        let net = Net { name: format!("aq{}", id % 100_000), hosts, subnet: (id % 250) as u8 + 1 };
        let Net { name, .. } = &net;
        ip(&format!("link add {name}b type bridge"))?;
        ip(&format!("addr add {}/24 dev {name}b", net.host()))?;
        ip(&format!("link set {name}b up"))?;
        for host in 1..=hosts {
            ip(&format!("netns add {name}n{host}"))?;
            ip(&format!("link add {name}v{host} type veth peer name eth0 netns {name}n{host}"))?;
            ip(&format!("link set {name}v{host} master {name}b up"))?;
            let within = format!("-n {name}n{host}");
            ip(&format!("{within} addr add {}/24 dev eth0", net.address(host)))?;
            ip(&format!("{within} link set eth0 up"))?;
            ip(&format!("{within} link set lo up"))?;
        }
        Ok(net)
    }

    /// The address of the test's own host.
    pub(crate) fn host(&self) -> String {
        format!("10.213.{}.254", self.subnet)
    }

    /// The address of a host.
    pub(crate) fn address(&self, host: usize) -> String {
        format!("10.213.{}.{host}", self.subnet)
    }

    /// What to put before a command so that it runs on a host.
    pub(crate) fn within(&self, host: usize) -> Vec<String> {
        ["ip", "netns", "exec", &format!("{}n{host}", self.name)].map(str::to_string).to_vec()
    }

    /// What `from` sends to `to` is lost from now on.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.neighbour(from, &self.address(to), true);
    }

    /// A host can speak to nobody any more, the test's own host among them.
    pub(crate) fn isolate(&self, host: usize) {
        ip(&format!("link set {}v{host} down", self.name)).unwrap();
    }

    /// All hosts hear each other again.
    pub(crate) fn heal(&self) {
        for from in 1..=self.hosts {
            ip(&format!("link set {}v{from} up", self.name)).unwrap();
            for to in (1..=self.hosts).filter(|to| *to != from) {
                self.neighbour(from, &self.address(to), false);
            }
        }
    }

    fn neighbour(&self, host: usize, address: &str, nobody: bool) {
        let within = format!("-n {}n{host} neigh", self.name);
        match nobody {
            true => {
                let to = format!("replace {address} lladdr {NOBODY} dev eth0 nud permanent");
                ip(&format!("{within} {to}")).unwrap();
            }
            // One that is not there is not cut off.
            false => _ = ip(&format!("{within} del {address} dev eth0")),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in 1..=self.hosts {
            _ = ip(&format!("netns del {}n{host}", self.name));
            _ = ip(&format!("link del {}v{host}", self.name));
        }
        _ = ip(&format!("link del {}b", self.name));
    }
}
