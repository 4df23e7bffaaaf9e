//! The talk with a SOCKS5 client (RFC 1928), and its login (RFC 1929).
//!
//! Invariant: success is said once the target is connected and not before, with the address it was dialled from;
//! a refusal is said in the words of the step it is met at.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use swiftproxy_core::account::Account;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::target::Target;
use swiftproxy_wire::parse::Malformed;
use swiftproxy_wire::socks5::{Command, Greeting, Login, LoginReply, Method, MethodReply, Reply, Request};
use tokio::time::Instant;

use crate::context::Context;
use crate::deadline::Deadline;
use crate::inbox::{Fault, Inbox};
use crate::layer::Next;

/// What the client logged in as.
enum Who {
    /// Whatever the layers below make of its address.
    Unnamed,
    /// That account.
    Known(Arc<Account>),
    /// Somebody who is who they say and may not be here; told in the reply to the request, which has a code for it.
    Barred(Refusal),
}

/// Serves one client up to what is to be piped.
pub(crate) async fn serve(ctx: &Context, mut inbox: Inbox, deadline: Instant) -> Next {
    let mut deadline = Deadline(deadline);
    let (who, target) = match talk(ctx, &mut inbox, &mut deadline).await {
        Ok(talked) => talked,
        Err(Parting { fault, words }) => {
            if let Fault::Refused(refusal) = fault {
                ctx.count(refusal);
            }
            if !words.is_empty() {
                inbox.part(&words).await;
            }
            return None;
        }
    };
    let opened = match who {
        Who::Barred(refusal) => Err(ctx.count(refusal)),
        who => {
            let account = if let Who::Known(account) = who { Some(account) } else { None };
            inbox.unless_reset(pin!(ctx.open("socks5", target, None, account))).await.ok()?
        }
    };
    match opened {
        Ok(opened) => {
            let bound = opened.bound().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
            inbox.say(&Reply::opened_bytes(bound)).await.ok()?;
            Some((opened, Box::new(inbox.into_end())))
        }
        Err(refusal) => {
            inbox.part(&Reply::refused_bytes(refusal)).await;
            None
        }
    }
}

/// Why there is no request, and the last words to the client (empty: none).
struct Parting {
    fault: Fault,
    words: Vec<u8>,
}

impl From<Fault> for Parting {
    /// Without a word; nobody is there, or the step has none.
    fn from(fault: Fault) -> Self {
        Self { fault, words: Vec::new() }
    }
}

/// From the greeting to a request that may be opened.
async fn talk(ctx: &Context, inbox: &mut Inbox, deadline: &mut Deadline) -> Result<(Who, Target), Parting> {
    let who = greet(ctx, inbox, deadline).await?;
    let refused = |refusal| Parting { fault: Fault::Refused(refusal), words: Reply::refused_bytes(refusal) };
    let request = match deadline.hold(pin!(inbox.message(Request::parse))).await {
        Ok(request) => request,
        // For a client that was too slow there is no code.
        Err(Fault::Refused(refusal)) if refusal != Refusal::HandshakeTimeout => return Err(refused(refusal)),
        Err(fault) => return Err(fault.into()),
    };
    match request.command {
        Command::Connect => Ok((who, request.target)),
        Command::Bind | Command::UdpAssociate => Err(refused(Refusal::UnsupportedCommand)),
    }
}

/// Settles the method, and logs in where it is the password.
async fn greet(ctx: &Context, inbox: &mut Inbox, deadline: &mut Deadline) -> Result<Who, Parting> {
    let wanted = ctx.authenticator.as_ref().filter(|authenticator| authenticator.wants_password(ctx.client));
    let pick = |bytes: &[u8]| -> Result<_, Malformed> {
        Ok(Greeting::parse(bytes)?.map(|(greeting, n)| {
            let none = wanted.is_none() && greeting.offers(Method::NONE);
            let password = greeting.offers(Method::PASSWORD).then_some(Method::PASSWORD);
            (if none { Some(Method::NONE) } else { password }, n)
        }))
    };
    let Some(method) = deadline.hold(pin!(inbox.message(pick))).await? else {
        let refusal = if wanted.is_some() { Refusal::AuthRequired } else { Refusal::Malformed };
        let words = MethodReply(Method::NOT_ACCEPTABLE).encode().into();
        return Err(Parting { fault: Fault::Refused(refusal), words });
    };
    deadline.hold(pin!(inbox.say(&MethodReply(method).encode()))).await?;
    if method == Method::NONE {
        return Ok(Who::Unnamed);
    }
    let login = |bytes: &[u8]| -> Result<_, Malformed> {
        Ok(Login::parse(bytes)?.map(|(login, n)| (login.credentials(), n)))
    };
    let failed =
        |refusal| Parting { fault: Fault::Refused(refusal), words: LoginReply::FAILURE.encode().into() };
    let credentials = match deadline.hold(pin!(inbox.message(login))).await {
        Ok(credentials) => credentials,
        Err(Fault::Refused(Refusal::Malformed)) => return Err(failed(Refusal::Malformed)),
        Err(fault) => return Err(fault.into()),
    };
    let who = match wanted {
        // A client that insists on a login where none is needed gets it, whatever it says.
        None => Ok(Who::Unnamed),
        Some(authenticator) => match credentials {
            // No account's name or password is anything but text.
            None => Err(Refusal::AuthFailed),
            Some(credentials) => match authenticator.known(ctx.client, Some(&credentials)) {
                Some(account) => Ok(Who::Known(account)),
                None => {
                    let verified = authenticator.verify(ctx.client, Some(credentials));
                    // The time it takes is ours.
                    match deadline.pause(inbox.unless_reset(verified)).await? {
                        Ok(account) => Ok(Who::Known(account)),
                        Err(refusal @ (Refusal::AuthRequired | Refusal::AuthFailed)) => Err(refusal),
                        Err(refusal) => Ok(Who::Barred(refusal)),
                    }
                }
            },
        },
    };
    match who {
        Ok(who) => {
            deadline.hold(pin!(inbox.say(&LoginReply::SUCCESS.encode()))).await?;
            Ok(who)
        }
        Err(refusal) => Err(failed(refusal)),
    }
}

#[cfg(test)]
mod tests;
