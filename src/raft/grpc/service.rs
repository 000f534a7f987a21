//! The ways to this node.

use crate::base::{Error, ErrorKind};
use crate::raft::grpc::lanes::{ALIVE_EVERY, GrpcPeers, Shared, WINDOW_BYTES};
use crate::raft::grpc::pb;
use crate::raft::grpc::pb::frame::What;
use crate::raft::grpc::pb::peer_server::Peer;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// What other nodes call.
pub struct Service {
    shared: Arc<Shared>,
}

impl Service {
    pub(crate) fn new(shared: Arc<Shared>) -> Service {
        Service { shared }
    }
}

/// Time for other nodes to see that a way ends.
const DRAIN: Duration = Duration::from_millis(200);

impl GrpcPeers {
    /// Listens for other nodes until `shutdown` completes.
    ///
    /// # Errors
    /// `Internal` if the transport cannot be set up.
    pub async fn serve_on(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> crate::base::Result<()> {
        let (stop, stopped) = oneshot::channel();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = Server::builder()
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keepalive_interval(Some(ALIVE_EVERY))
            .http2_keepalive_timeout(Some(ALIVE_EVERY))
            .serve_with_incoming_shutdown(self.service(), incoming, async {
                shutdown.await;
                // The receiver is gone only if serving has ended already.
                _ = stop.send(());
            });
        let overdue = async {
            match stopped.await {
                // Ways do not end by themselves.
                Ok(()) => tokio::time::sleep(DRAIN).await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            served = serving => {
                served.map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
            }
            () = overdue => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Peer for Service {
    type LaneStream = BoxStream<'static, Result<pb::Frame, Status>>;

    async fn lane(
        &self,
        request: Request<Streaming<pb::Frame>>,
    ) -> Result<Response<Self::LaneStream>, Status> {
        let mut frames = request.into_inner();
        let Some(What::Hello(hello)) = frames.message().await?.and_then(|frame| frame.what) else {
            return Err(Status::invalid_argument("a node says first who it is"));
        };
        let (node, class) = self.shared.registry.admit(&hello).map_err(|error| {
            let message = error.message().to_string();
            match error.kind() {
                ErrorKind::Unavailable => Status::unavailable(message),
                _ => Status::permission_denied(message),
            }
        })?;
        let Some(host) = self.shared.host.get().cloned() else {
            return Err(Status::unavailable("this node is still starting"));
        };
        let own = self.shared.registry.own;
        let welcome = pb::Welcome { node: own.node.0, incarnation: own.incarnation };
        let first = Ok(pb::Frame { what: Some(What::Welcome(welcome)) });
        let (ended, end) = oneshot::channel::<()>();
        tokio::spawn(async move {
            // A message of a kind that is not known is of a newer program, and as good as lost.
            while let Ok(Some(frame)) = frames.message().await {
                if let Some(What::Message(message)) = frame.what {
                    host.receive(node, class, message);
                }
            }
            drop(ended);
        });
        // Our side ends when the caller's has.
        let rest =
            futures::stream::once(async move { _ = end.await }).filter_map(|()| async { None });
        Ok(Response::new(futures::stream::iter([first]).chain(rest).boxed()))
    }
}
