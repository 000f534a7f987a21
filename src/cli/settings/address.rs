//! Where to listen, and where to reach others.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// The longest name of a host (RFC 1035).
const HOST_MAX: usize = 253;

/// `host:port`: a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The host, without brackets.
    pub host: String,
    /// The port; 0 is any free one, to listen on.
    pub port: u16,
}

impl Address {
    /// Reads `host:port`.
    pub fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']')?;
                inner.parse::<Ipv6Addr>().ok()?;
                inner
            }
            None => host,
        };
        let is_name = !host.is_empty()
            && host.len() <= HOST_MAX
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        (is_name || text.starts_with('[')).then(|| Address { host: host.to_string(), port })
    }

    /// The address of the host, if it is one and not a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether it stands for all addresses of the machine: nobody can connect to that.
    pub fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// The socket addresses it stands for; a name is looked up, but for `localhost`, which needs no
    /// resolver.
    ///
    /// # Errors
    /// Those of the look-up.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        if let Some(ip) = self.ip() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        if self.host.eq_ignore_ascii_case("localhost") {
            let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(both.map(|ip| SocketAddr::new(ip, self.port)).to_vec());
        }
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `http://host:port`: where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub Address);

impl Url {
    /// Reads `http://host:port`, with a slash behind it if you like.
    pub fn parse(text: &str) -> Option<Url> {
        let rest = text.strip_prefix("http://")?;
        reachable(rest.strip_suffix('/').unwrap_or(rest)).map(Url)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// An address that others can connect to: no wildcard, no port 0.
pub fn reachable(text: &str) -> Option<Address> {
    Address::parse(text).filter(|address| address.port != 0 && !address.is_wildcard())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly_and_written_back() {
        for text in ["127.0.0.1:0", "0.0.0.0:6379", "[::1]:1", "[::]:65535", "db-1.example:7379"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "6379",
            ":6379",
            "host",
            "host:",
            "host:x",
            "host:+1",
            "host:65536",
            "host:-1",
            "::1:80",
            "[::1]",
            "[nonsense]:1",
            "[127.0.0.1]:1",
            "a b:1",
            "a/b:1",
            "user@host:1",
            "http://host:1",
            "[::1:1",
            "::1]:1",
            "host: 1",
            "h\u{e9}:1",
        ] {
            assert_eq!(Address::parse(text), None, "{text:?}");
        }
        assert_eq!(Address::parse(&format!("{}:1", "a".repeat(254))), None);
    }

    #[test]
    fn a_url_is_an_address_others_can_reach() {
        for text in ["http://127.0.0.1:8379", "http://[::1]:1", "http://meta-1:8379"] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Url::parse("http://a:1/").unwrap().to_string(), "http://a:1");
        for text in [
            "a:1",
            "https://a:1",
            "http://a",
            "http://a:1/x",
            "http://a:1//",
            "http://u:p@a:1",
            "http://0.0.0.0:1",
            "http://[::]:1",
            "http://a:0",
            "HTTP://a:1",
        ] {
            assert_eq!(Url::parse(text), None, "{text:?}");
        }
    }
}
