//! A server that does nothing: it answers every call with the same value, out of memory, and knows
//! neither keys nor other servers. What the client gets out of it is the most that any server of the
//! protocol could give on this machine, whose cores they share.

use crate::Result;
use crate::messages::{ArqonGetAnswer, ArqonPutAnswer};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use prost::Message;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};

/// Answers at an address until the process is ended.
pub fn serve(address: SocketAddr) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // As many as ours has for two processors.
    runtime.worker_threads(1).enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(address).await?;
        let get = framed(&ArqonGetAnswer { found: true, value: crate::load::value(1) });
        let put = framed(&ArqonPutAnswer { applied: true, seq: 1 });
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(connection(stream, get.clone(), put.clone()));
        }
    })
}

fn framed(message: &impl Message) -> Bytes {
    let mut body = BytesMut::with_capacity(5 + message.encoded_len());
    body.put_u8(0);
    body.put_u32(message.encoded_len() as u32);
    body.put_slice(&message.encode_to_vec());
    body.freeze()
}

async fn connection(stream: TcpStream, get: Bytes, put: Bytes) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut calls = h2::server::handshake(stream).await?;
    while let Some(call) = calls.accept().await {
        let (request, mut respond) = call?;
        let is_put = request.uri().path().ends_with("/Put");
        let answer = if is_put { put.clone() } else { get.clone() };
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(part) = body.data().await {
                body.flow_control().release_capacity(part?.len())?;
            }
            let mut response = Response::new(());
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(answer, false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers)?;
            Result::Ok(())
        });
    }
    Ok(())
}
