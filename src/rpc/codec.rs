//! Protobuf decoding that bounds a message before it allocates for it.
//!
//! A repeated element of a message may take two bytes on the wire and over a hundred in memory,
//! so a limit on bytes alone would let 64 MiB become gigabytes. Before decoding, the outermost
//! fields are counted, which touches each only at its head.

use crate::op::kv::BATCH_OPS_MAX;
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
        // would look at the first only and refuse it as cut, never let it through uncounted.
        if buf.chunk().len() != buf.remaining() || !is_within_bounds(buf.chunk()) {
            return Err(Status::invalid_argument(format!(
                "the message is malformed or has more than {FIELDS_MAX} elements: send fewer at \
                 a time, batches at most {BATCH_OPS_MAX} writes"
            )));
        }
        self.0.decode(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Whether `message` is a run of at most [`FIELDS_MAX`] whole fields.
fn is_within_bounds(mut message: &[u8]) -> bool {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    for _ in 0..=FIELDS_MAX {
        if message.is_empty() {
            return true;
        }
        let skipped = decode_key(&mut message).and_then(|(tag, wire_type)| {
            skip_field(wire_type, tag, &mut message, DecodeContext::default())
        });
        if skipped.is_err() {
            return false;
        }
    }
    false
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
        assert!(is_within_bounds(&full.encode_to_vec()));
        assert!(!is_within_bounds(&[0x0a, 0].repeat(FIELDS_MAX + 1)));
        assert!(is_within_bounds(&[]));
    }

    #[test]
    fn cut_messages_are_refused() {
        let whole = pb::Entry { key: "k".into(), value: "v".into(), seq: 300, expire_at_ms: 0 };
        let whole = whole.encode_to_vec();
        assert!(is_within_bounds(&whole));
        assert!(!is_within_bounds(&whole[..whole.len() - 1]));
        assert!(!is_within_bounds(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]));
    }
}
