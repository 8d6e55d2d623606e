//! [`paced`]: an answer that is taken, or given up.
//!
//! Who asks for much and reads none of it would have it kept for ever. A large answer is handed out
//! piece by piece, and whoever leaves a piece untaken for too long is disconnected: with the
//! connection goes all that it holds. A watch that waits for events waits for nobody.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::respond::Body;

/// Who disconnects a client that does not take what it asked for.
#[derive(Clone, Debug)]
pub(super) struct Disconnect {
    /// How long a piece may lie untaken.
    pub(super) patience: Duration,
    /// Ends the connection.
    pub(super) connection: CancellationToken,
}

/// The same body, in pieces that have to be taken.
pub(super) fn paced(body: Body, disconnect: Disconnect) -> Body {
    let pace = Arc::new(Pace { began: Instant::now(), given: AtomicU64::new(0) });
    let over = CancellationToken::new();
    tokio::spawn(watch_over(Arc::clone(&pace), over.clone(), disconnect));
    Paced { body, piece: Bytes::new(), pace, _over: over.drop_guard() }.boxed()
}

struct Paced {
    body: Body,
    /// Read, and not handed out yet.
    piece: Bytes,
    pace: Arc<Pace>,
    _over: DropGuard,
}

struct Pace {
    began: Instant,
    /// When a piece was handed out after which no other was asked for, in milliseconds, and one more;
    /// 0: it is the reader that waits.
    given: AtomicU64,
}

impl Pace {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long the reader has left a piece untaken.
    fn untaken(&self) -> Duration {
        let given = self.given.load(Relaxed).checked_sub(1);
        given
            .map_or(Duration::ZERO, |given| Duration::from_millis(self.now().saturating_sub(given)))
    }
}

async fn watch_over(pace: Arc<Pace>, over: CancellationToken, disconnect: Disconnect) {
    let Disconnect { patience, connection } = disconnect;
    loop {
        let rest = patience.saturating_sub(pace.untaken());
        if rest.is_zero() {
            connection.cancel();
            return;
        }
        tokio::select! {
            () = over.cancelled() => return,
            () = sleep(rest) => {}
        }
    }
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        this.pace.given.store(0, Relaxed);
        if this.piece.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.piece = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                None => return Poll::Ready(None),
            }
        }
        let piece = this.piece.split_to(this.piece.len().min(PIECE_BYTES));
        this.pace.given.store(this.pace.now().saturating_add(1), Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, piece) = (self.body.size_hint(), self.piece.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(piece));
        }
        hint.set_lower(body.lower().saturating_add(piece));
        hint
    }
}

/// Handed out at a time.
const PIECE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn disconnect(patience: u64) -> Disconnect {
        let patience = Duration::from_millis(patience);
        Disconnect { patience, connection: CancellationToken::new() }
    }

    #[tokio::test]
    async fn what_is_taken_arrives_whole_and_its_size_is_known() {
        let whole = Bytes::from(vec![7; 3 * PIECE_BYTES + 1]);
        let disconnect = disconnect(60_000);
        let mut body = paced(Full::new(whole.clone()).boxed(), disconnect.clone());
        assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some(whole.len() as u64));

        let mut pieces = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            pieces.push(frame.into_data().expect("data").len());
        }

        assert_eq!(pieces, [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 1]);
        assert!(!disconnect.connection.is_cancelled());
    }

    #[tokio::test]
    async fn who_leaves_a_piece_untaken_is_disconnected_and_who_waits_for_one_is_not() {
        let silent =
            StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let waits = disconnect(20);
        let mut body = paced(silent.boxed(), waits.clone());
        let frame = tokio::time::timeout(Duration::from_millis(200), body.frame()).await;
        assert!(frame.is_err() && !waits.connection.is_cancelled());

        let lazy = disconnect(20);
        let mut body =
            paced(Full::new(Bytes::from(vec![7; 2 * PIECE_BYTES])).boxed(), lazy.clone());
        assert!(body.frame().await.is_some());
        let gone = lazy.connection.cancelled();
        assert!(tokio::time::timeout(Duration::from_secs(10), gone).await.is_ok());
    }
}
