//! The ways from this node: one stream for each node and class, made when there is something to
//! say, and made anew when it has broken.

use crate::base::{Error, ErrorKind, Result};
use crate::raft::grpc::pb;
use crate::raft::grpc::pb::frame::What;
use crate::raft::grpc::pb::peer_client::PeerClient;
use crate::raft::grpc::pb::peer_server::PeerServer;
use crate::raft::grpc::registry::{Identity, Peer, Registry};
use crate::raft::grpc::service::Service;
use crate::raft::host::Host;
use crate::raft::message::MESSAGE_BYTES_MAX;
use crate::raft::transport::{Class, NodeId, Peers};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Endpoint;

/// Bytes that wait for one node in one class; what comes on top is not sent.
const WAITING_BYTES_MAX: usize = 64 << 20;
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Time after a failure before a node is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// A connection on which nothing answers for so long is broken.
pub(crate) const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// Bytes that may be on their way on one stream.
pub(crate) const WINDOW_BYTES: u32 = 8 << 20;

/// A cluster's nodes over gRPC. Clones share it.
#[derive(Clone)]
pub struct GrpcPeers {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) registry: Registry,
    pub(crate) host: OnceLock<Host>,
    lanes: Mutex<BTreeMap<(NodeId, Class), Lane>>,
}

struct Lane {
    messages: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
    /// Set when the stream has broken: until then nobody is tried.
    down_until: Arc<Mutex<Option<Instant>>>,
}

impl GrpcPeers {
    /// The nodes around `own`. None is known yet.
    pub fn new(own: Identity) -> GrpcPeers {
        let (host, lanes) = (OnceLock::new(), Mutex::default());
        GrpcPeers { shared: Arc::new(Shared { registry: Registry::new(own), host, lanes }) }
    }

    /// Says which nodes there are now.
    pub fn set_peers(&self, peers: BTreeMap<NodeId, Peer>) {
        self.shared.registry.set(peers);
    }

    /// Gives what arrives to `host`. Once.
    pub fn attach(&self, host: Host) {
        _ = self.shared.host.set(host);
    }

    /// What other nodes call, to be served by [`GrpcPeers::serve_on`] or beside something else.
    pub fn service(&self) -> PeerServer<Service> {
        PeerServer::new(Service::new(self.shared.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX + 1024)
            .max_encoding_message_size(MESSAGE_BYTES_MAX + 1024)
    }
}

impl Peers for GrpcPeers {
    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<()> {
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |lane: &Lane| {
            let down = lane.down_until.lock().unwrap_or_else(PoisonError::into_inner);
            down.is_some_and(|until| Instant::now() >= until)
        };
        if lanes.get(&(to, class)).is_some_and(is_over) {
            lanes.remove(&(to, class));
        }
        let lane = match lanes.get(&(to, class)) {
            Some(lane) => lane,
            None => {
                let peer = self.shared.registry.get(to)?;
                let (send, messages) = mpsc::unbounded_channel();
                let lane =
                    Lane { messages: send, waiting: Arc::default(), down_until: Arc::default() };
                let end = End {
                    shared: self.shared.clone(),
                    to,
                    class,
                    waiting: lane.waiting.clone(),
                    down_until: lane.down_until.clone(),
                };
                tokio::spawn(end.run(peer, messages));
                lanes.entry((to, class)).or_insert(lane)
            }
        };
        let down = lane.down_until.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let bytes = message.len();
        let full = lane.waiting.load(Ordering::Relaxed) + bytes > WAITING_BYTES_MAX.max(bytes);
        if down || full {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "node {to} {}",
                    if down { "cannot be reached" } else { "takes too little" }
                ),
            ));
        }
        lane.waiting.fetch_add(bytes, Ordering::Relaxed);
        let lost = |_| Error::new(ErrorKind::Unavailable, format!("the way to node {to} is lost"));
        lane.messages.send(message).map_err(lost)
    }
}

/// The end of a lane that speaks to the network.
struct End {
    shared: Arc<Shared>,
    to: NodeId,
    class: Class,
    waiting: Arc<AtomicUsize>,
    down_until: Arc<Mutex<Option<Instant>>>,
}

impl End {
    /// Sends until the way breaks; then what waits is lost, and those who wait for answers are told.
    async fn run(self, peer: Peer, messages: mpsc::UnboundedReceiver<Bytes>) {
        _ = self.speak(&peer, messages).await;
        let until = Instant::now() + PAUSE;
        *self.down_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        if let Some(host) = self.shared.host.get() {
            host.lost(self.to);
        }
    }

    async fn speak(
        &self,
        peer: &Peer,
        messages: mpsc::UnboundedReceiver<Bytes>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let channel = Endpoint::from_shared(peer.address.clone())?
            .connect_timeout(CONNECT_PATIENCE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_EVERY)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect()
            .await?;
        let mut client = PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX + 1024)
            .max_encoding_message_size(MESSAGE_BYTES_MAX + 1024);
        let hello = What::Hello(self.shared.registry.hello(self.to, self.class));
        let waiting = self.waiting.clone();
        let following = futures::stream::unfold(messages, move |mut messages| {
            let waiting = waiting.clone();
            async move {
                let message: Bytes = messages.recv().await?;
                waiting.fetch_sub(message.len(), Ordering::Relaxed);
                Some((What::Message(message), messages))
            }
        });
        let first = futures::stream::iter([hello]);
        let frames = first.chain(following).map(|what| pb::Frame { what: Some(what) });
        let mut answers = client.lane(frames).await?.into_inner();
        let welcome = tokio::time::timeout(CONNECT_PATIENCE, answers.message()).await??;
        let Some(What::Welcome(welcome)) = welcome.and_then(|frame| frame.what) else {
            return Err("the node did not say who it is".into());
        };
        if NodeId(welcome.node) != self.to {
            return Err("another node answers at this address".into());
        }
        self.shared.registry.recognise(self.to, welcome.incarnation)?;
        // Nothing more comes this way but its end.
        while answers.message().await?.is_some() {}
        Ok(())
    }
}
