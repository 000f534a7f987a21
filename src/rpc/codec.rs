//! Protobuf decoding that bounds a message before it allocates for it.
//!
//! A repeated element of a message may take two bytes on the wire and over a hundred in memory,
//! so a limit on bytes alone would let 64 MiB become gigabytes. Before decoding, the outermost
//! fields are counted, which touches each only at its head.

use crate::base::Error;
use crate::op::kv::BATCH_OPS_MAX;
use crate::rpc::status;
use bytes::Buf;
use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// The most outermost fields of a message: a full batch with its other fields.
const FIELDS_MAX: usize = BATCH_OPS_MAX + 64;

/// The codec of every call: encodes `T`, decodes `U` if it has at most 100,064 outermost fields.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        BoundedCodec(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::default())
    }
}

/// The decoder of [`BoundedCodec`].
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The transport hands over a whole message in one piece; were it ever in several, this
        // would refuse it and not let it through uncounted.
        if buf.chunk().len() != buf.remaining() {
            return Err(Status::internal("the message came in pieces"));
        }
        match outermost_fields(buf.chunk()) {
            None => return Err(Status::internal("the message is not protobuf")),
            Some(fields) if fields > FIELDS_MAX => {
                return Err(status::from_error(&Error::invalid(format!(
                    "the message has more than {FIELDS_MAX} elements: send fewer at a time, \
                     batches at most {BATCH_OPS_MAX} writes"
                ))));
            }
            Some(_) => {}
        }
        self.0.decode(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// How many fields `message` is a run of, counted to one beyond [`FIELDS_MAX`]; `None` if it is
/// malformed.
fn outermost_fields(mut message: &[u8]) -> Option<usize> {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    let mut fields = 0;
    while !message.is_empty() && fields <= FIELDS_MAX {
        let (tag, wire_type) = decode_key(&mut message).ok()?;
        skip_field(wire_type, tag, &mut message, DecodeContext::default()).ok()?;
        fields += 1;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::pb;

    #[test]
    fn a_full_batch_passes_and_a_flood_of_empty_writes_does_not() {
        let full = pb::BatchWriteRequest {
            ops: vec![pb::WriteOp::default(); BATCH_OPS_MAX],
            request_id: Some(pb::RequestId { client_id: 1, number: 1 }),
        };
        assert_eq!(outermost_fields(&full.encode_to_vec()), Some(BATCH_OPS_MAX + 1));
        assert_eq!(outermost_fields(&[0x0a, 0].repeat(1_000_000)), Some(FIELDS_MAX + 1));
        assert_eq!(outermost_fields(&[]), Some(0));
    }

    #[test]
    fn cut_messages_are_refused() {
        let whole = pb::Entry { key: "k".into(), value: "v".into(), seq: 300, expire_at_ms: 0 };
        let whole = whole.encode_to_vec();
        assert_eq!(outermost_fields(&whole), Some(3));
        assert_eq!(outermost_fields(&whole[..whole.len() - 1]), None);
        assert_eq!(outermost_fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
    }
}
