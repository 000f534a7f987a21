//! The deadline that a client sends along, answered with DEADLINE_EXCEEDED.
//!
//! The transport below would answer it with CANCELLED, which clients take for a wish of the
//! caller's. It starts its own timer after this one and asks it after this one, so that this one
//! is always first.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};

/// A timer that ends with the call's deadline, if it has one that is well formed.
pub(super) fn timer(call: &http::Request<Body>) -> Option<Sleep> {
    let header = call.headers().get("grpc-timeout")?;
    timeout(header.as_bytes()).map(sleep)
}

/// `answer`, or DEADLINE_EXCEEDED when `timer` ends before it.
pub(super) async fn within(
    timer: Sleep,
    mut answer: BoxFuture<http::Response<Body>, Infallible>,
) -> Result<http::Response<Body>, Infallible> {
    let deadline = timer.deadline();
    let mut timer = pin!(timer);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        // The transport's timer may wake this task an instant before ours does.
        if timer.as_mut().poll(cx).is_ready() || Instant::now() >= deadline {
            let status = Status::deadline_exceeded("no answer within the call's deadline");
            return Poll::Ready(Ok(status.into_http()));
        }
        Poll::Pending
    })
    .await
}

/// `grpc-timeout` as the protocol has it: one to eight digits and a unit.
fn timeout(header: &[u8]) -> Option<Duration> {
    let (unit, digits) = header.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timer_started_later_for_the_same_deadline_never_comes_first() {
        for _ in 0..50 {
            let mut call = http::Request::new(Body::empty());
            call.headers_mut().insert("grpc-timeout", "1m".parse().unwrap());
            let never = Box::pin(std::future::pending());
            let late = within(timer(&call).unwrap(), never);
            let answer = tokio::time::timeout(Duration::from_millis(1), late).await;
            let status = Status::from_header_map(answer.unwrap().unwrap().headers()).unwrap();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        }
    }

    #[test]
    fn timeouts_have_digits_and_a_unit() {
        assert_eq!(timeout(b"20m"), Some(Duration::from_millis(20)));
        assert_eq!(timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout(b"1S"), Some(Duration::from_secs(1)));
        for wrong in [&b""[..], b"m", b"20", b"-1m", b"999999999n", b"1x", b"+1S", b"\xff1S"] {
            assert_eq!(timeout(wrong), None, "{wrong:?}");
        }
    }
}
