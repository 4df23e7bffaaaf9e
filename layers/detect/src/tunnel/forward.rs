//! Ordinary requests over HTTP/2 (`:scheme` http), forwarded to their origins in HTTP/1.1.
//!
//! Invariant: what waits in memory of a body, of either direction, is bounded by the stream's window; a message
//! that broke off is reset, never ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use swiftproxy_wire::h2::Queue;
use swiftproxy_wire::http1::strip_hop_by_hop;
use swiftproxy_wire::refusal;

use super::stream::answer;
use crate::context::Context;
use crate::http::forward::{BoxError, exchange};

/// Serves one request to the end of its response.
pub(super) async fn serve(
    ctx: &Context,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    queue: &Queue,
) {
    // The answer to HEAD has no body, of ours neither.
    let bodiless = request.method() == Method::HEAD;
    let mut request = request.map(|body| Upload(body).boxed_unsync());
    join_cookies(request.headers_mut());
    // Shared with what passes interim responses on while the final one is awaited.
    let respond = Arc::new(Mutex::new(Some(respond)));
    let hints = respond.clone();
    hyper::ext::on_informational(&mut request, move |hint| {
        let mut fields = hint.headers().clone();
        strip_hop_by_hop(&mut fields);
        let mut interim = Response::new(());
        *interim.status_mut() = hint.status();
        *interim.headers_mut() = fields;
        if let Some(respond) = &mut *hints.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = respond.send_informational(interim);
        }
    });
    let gone = poll_fn(|cx| match &mut *respond.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(respond) => respond.poll_reset(cx).map(drop),
        None => Poll::Ready(()),
    });
    // Kept until the response has passed: with it goes its connection.
    let mut origin = None;
    let response = tokio::select! {
        biased;
        response = exchange(ctx, &mut origin, request) => response,
        () = gone => return,
    };
    let Some(respond) = respond.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    match response {
        Ok(response) => {
            let download = download(respond, response, bodiless, queue);
            match &mut origin {
                None => download.await,
                // A session that was ended is ended for a client that does not read, too. The stream is reset as it
                // is dropped.
                Some(origin) => tokio::select! {
                    biased;
                    () = download => {}
                    () = origin.cut() => {}
                },
            }
        }
        Err(refusal) => {
            let response = refusal::response(refusal);
            answer(respond, response.map(|text| if bodiless { Bytes::new() } else { text }));
        }
    }
}

/// HTTP/2 may split the field (RFC 9113 §8.2.3); HTTP/1.1 has one.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, cookie);
    }
}

/// Sends a response, its body as fast as the client takes it.
async fn download<B>(mut respond: SendResponse<Bytes>, response: Response<B>, bodiless: bool, queue: &Queue)
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let (mut head, mut body) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    let whole = bodiless || body.is_end_stream();
    let Ok(mut send) = respond.send_response(Response::from_parts(head, ()), whole) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return;
    };
    if whole {
        return;
    }
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            _ = poll_fn(|cx| send.poll_reset(cx)) => return,
        };
        let Some(frame) = frame else { break };
        let sent = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => send_all(&mut send, data, queue).await,
            Ok(Err(frame)) => match frame.into_trailers() {
                Ok(trailers) => return drop(send.send_trailers(trailers)),
                Err(_) => Ok(()),
            },
            // The origin broke off, which the client must not take for the end.
            Err(_) => return send.send_reset(Reason::INTERNAL_ERROR),
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = send.send_data(Bytes::new(), true);
}

/// Sends `data` as the client makes room for it.
async fn send_all(send: &mut SendStream<Bytes>, mut data: Bytes, queue: &Queue) -> Result<(), h2::Error> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        while send.capacity() == 0 {
            match poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(room) => drop(room?),
                None => return Err(Reason::CANCEL.into()),
            }
        }
        let held = loop {
            match queue.try_hold(send.capacity().min(data.len())) {
                Some(held) => break held,
                None => queue.room().await,
            }
        };
        let piece = data.split_to(held.bytes());
        send.send_data(held.hold(piece), false)?;
    }
    Ok(())
}

/// A request's body.
struct Upload(RecvStream);

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match ready!(self.0.poll_data(cx)) {
            Some(Ok(data)) => {
                // It is hyper's from here on, which asks for no more before this has left.
                let _ = self.0.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(match ready!(self.0.poll_trailers(cx)) {
                Ok(trailers) => trailers.map(|mut trailers| {
                    strip_hop_by_hop(&mut trailers);
                    Ok(Frame::trailers(trailers))
                }),
                Err(error) => Some(Err(error.into())),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_cookie() {
        let mut headers = HeaderMap::new();
        join_cookies(&mut headers);
        assert!(headers.is_empty());
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
