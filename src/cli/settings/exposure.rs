//! Who may listen where: without authentication on loopback only, unless told otherwise.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::settings::Effective;
use crate::cli::settings::address::Address;
use crate::cli::settings::roles::{DevSettings, GatewaySettings};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What protects a server's doors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Why strangers could come in, as the end of a sentence; `None` if they must show a token.
    pub open_because: Option<&'static str>,
    /// The users whose password everyone knows.
    pub known_passwords: Vec<String>,
    /// Whether the user has said that other machines may come in.
    pub allow_remote: bool,
    /// What would make it safe, to follow "listen on 127.0.0.1, ".
    pub cure: &'static str,
    /// What becomes of an address that stands for all of the machine's.
    pub wildcard: Wildcard,
}

/// What becomes of `0.0.0.0` and `[::]` where strangers could come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wildcard {
    /// It becomes loopback, with a notice.
    Narrowed,
    /// It is refused as any other.
    Refused,
}

/// Where to listen, and what to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What the address stands for; the first that is free is listened on.
    pub addresses: Vec<SocketAddr>,
    /// A sentence that the user must hear.
    pub notice: Option<String>,
}

impl Guard {
    /// That of a gateway.
    pub fn of_gateway(settings: &GatewaySettings) -> Guard {
        let known = settings.gateway.users.iter().filter(|user| user.has_known_password());
        let secret = settings.gateway.jwt_secret.is_some();
        Guard {
            open_because: (!secret).then_some("GATEWAY_JWT_SECRET is not set"),
            known_passwords: known.map(|user| user.name.clone()).collect(),
            allow_remote: settings.server.allow_remote,
            cure: "set GATEWAY_JWT_SECRET, or say --allow-remote behind a firewall of your own",
            wildcard: Wildcard::Narrowed,
        }
    }

    /// That of `arqon dev`, and of any door that has no authentication yet.
    pub fn of_dev(settings: &DevSettings) -> Guard {
        Guard {
            wildcard: Wildcard::Refused,
            ..Guard::without_authentication(settings.server.allow_remote)
        }
    }

    /// That of doors that have no authentication.
    pub fn without_authentication(allow_remote: bool) -> Guard {
        Guard {
            open_because: Some("there is no authentication yet"),
            known_passwords: Vec::new(),
            allow_remote,
            cure: "or say --allow-remote behind a firewall of your own",
            wildcard: Wildcard::Narrowed,
        }
    }

    /// Decides about the address of the setting `key`. A name is looked up, and all of its
    /// addresses are judged.
    ///
    /// # Errors
    /// Refused is an address off loopback where strangers could come in and nobody said they may,
    /// or where a password is one that everyone knows. Usage: a name that cannot be looked up.
    pub fn admit(&self, values: &Effective, key: &str, address: &Address) -> Outcome<Admitted> {
        self.judge(&values.name(key), address)
    }

    fn judge(&self, name: &str, address: &Address) -> Outcome<Admitted> {
        let found = address.resolve().ok().filter(|found| !found.is_empty()).ok_or_else(|| {
            Failure::usage(format!("{name} is {address}, and that host is not known"))
                .fix("give an address such as 127.0.0.1:0")
        })?;
        let Some(open) = found.iter().find(|addr| !addr.ip().is_loopback()).map(SocketAddr::ip)
        else {
            return Ok(Admitted { addresses: found, notice: None });
        };
        match self.open_because {
            Some(why) if !self.allow_remote => self.close(name, address, &found, open, why),
            Some(why) => {
                let notice =
                    format!("everyone who can reach {address} ({name}) can read and write: {why}");
                Ok(Admitted { addresses: found, notice: Some(notice) })
            }
            None => match self.known_passwords.first() {
                None => Ok(Admitted { addresses: found, notice: None }),
                Some(user) => Err(Failure::refused(
                    format!(
                        "{name} is {address}, and everyone who can reach {open} knows the password \
                         of the user {user}"
                    ),
                    "set GATEWAY_USERS to users with passwords of their own, or listen on 127.0.0.1",
                )),
            },
        }
    }

    /// What becomes of an address that would let strangers in.
    fn close(
        &self,
        name: &str,
        address: &Address,
        found: &[SocketAddr],
        open: IpAddr,
        why: &str,
    ) -> Outcome<Admitted> {
        if self.wildcard == Wildcard::Narrowed && address.is_wildcard() {
            let addresses: Vec<SocketAddr> = found.iter().map(loopback).collect();
            let inner = addresses.first().map(SocketAddr::to_string).unwrap_or_default();
            let notice = format!(
                "{name} is {address}, but only {inner} is listened on: {why}; {}",
                self.cure
            );
            return Ok(Admitted { addresses, notice: Some(notice) });
        }
        Err(Failure::refused(
            format!(
                "{name} {address} would let everyone who can reach {open} read and write: {why}"
            ),
            format!("listen on 127.0.0.1, {}", self.cure),
        ))
    }
}

/// The loopback address of the same family and port.
fn loopback(addr: &SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
mod tests;
