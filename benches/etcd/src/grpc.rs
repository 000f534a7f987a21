//! Unary gRPC calls over HTTP/2 and nothing else, the same for both systems. tonic's client would
//! take as much of two cores as a server, and the figures would be its.

use crate::Result;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, Uri, Version, header};
use prost::Message;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A connection, shared by its clones.
#[derive(Clone)]
pub struct Connection {
    send: SendRequest<Bytes>,
    address: SocketAddr,
}

/// A method of a service on a server.
#[derive(Clone)]
pub struct Call {
    uri: Uri,
}

impl Connection {
    /// Connects. REQUIRES: a runtime.
    pub async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(stream)
            .await?;
        // Its errors are those of the calls on it.
        tokio::spawn(async move { _ = connection.await });
        Ok(Connection { send, address })
    }

    /// A method to be called here.
    pub fn method(&self, path: &str) -> Call {
        let uri = Uri::builder().scheme("http").authority(self.address.to_string());
        let uri = uri.path_and_query(path).build();
        Call { uri: uri.unwrap_or_default() }
    }

    /// Asks and waits for the answer.
    pub async fn call<A: Message + Default>(
        &self,
        call: &Call,
        message: &impl Message,
    ) -> Result<A> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = call.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let length = message.encoded_len();
        let mut body = BytesMut::with_capacity(5 + length);
        body.put_u8(0);
        body.put_u32(length as u32);
        message.encode(&mut body)?;

        let mut ready = self.send.clone().ready().await?;
        let (response, mut stream) = ready.send_request(request, false)?;
        stream.send_data(body.freeze(), true)?;
        let response = response.await?;
        if let Some(status) = response.headers().get("grpc-status")
            && status != "0"
        {
            return Err(format!("grpc-status {status:?}: {:?}", response.headers()).into());
        }
        let mut body = response.into_body();
        let mut answer = Bytes::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            answer = if answer.is_empty() { part } else { [answer, part].concat().into() };
        }
        if let Some(trailers) = body.trailers().await?
            && trailers.get("grpc-status").is_none_or(|status| status != "0")
        {
            return Err(format!("the call failed: {trailers:?}").into());
        }
        if answer.len() < 5 {
            return Err("an answer without a message".into());
        }
        Ok(A::decode(answer.slice(5..))?)
    }
}
