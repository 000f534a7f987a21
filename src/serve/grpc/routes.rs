//! Calls to their services by the path `/package.Service/Method`, each within its deadline.

use crate::serve::grpc::deadline;
use std::convert::Infallible;
use std::future::ready;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// A service as tonic generates it.
pub(super) trait Door:
    Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = Infallible,
        Future = BoxFuture<http::Response<Body>, Infallible>,
    > + NamedService
{
}

impl<S> Door for S where
    S: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = BoxFuture<http::Response<Body>, Infallible>,
        > + NamedService
{
}

/// The services of this door. A call of any other is answered with UNIMPLEMENTED.
#[derive(Debug, Clone)]
pub(super) struct Routes<K, H, R, A> {
    pub(super) kv: K,
    pub(super) health: H,
    pub(super) reflection: R,
    pub(super) reflection_alpha: A,
}

impl<K: Door, H: Door, R: Door, A: Door> Service<http::Request<Body>> for Routes<K, H, R, A> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Each generated service is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<Body>) -> Self::Future {
        let timer = deadline::timer(&call);
        let answer = self.dispatch(call);
        match timer {
            Some(timer) => Box::pin(deadline::within(timer, answer)),
            None => answer,
        }
    }
}

impl<K: Door, H: Door, R: Door, A: Door> Routes<K, H, R, A> {
    fn dispatch(
        &mut self,
        call: http::Request<Body>,
    ) -> BoxFuture<http::Response<Body>, Infallible> {
        let service = call.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            name if name == K::NAME => self.kv.call(call),
            name if name == H::NAME => self.health.call(call),
            name if name == R::NAME => self.reflection.call(call),
            name if name == A::NAME => self.reflection_alpha.call(call),
            name => {
                let status = Status::unimplemented(format!("there is no service {name} here"));
                Box::pin(ready(Ok(status.into_http())))
            }
        }
    }
}
