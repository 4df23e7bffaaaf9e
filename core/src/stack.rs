//! A listener's layers, each erased once, over one relay.
//!
//! Invariant: `poll_ready` is always ready; admission happens in `call`.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use crate::BoxFuture;
use crate::connection::Connection;
use crate::error::Refusal;
use crate::opened::Opened;
use crate::session::Session;

type Call<In, Out> = Arc<dyn Fn(In) -> BoxFuture<Out> + Send + Sync>;

/// Everything from some layer inwards: a session in, an opened one or a refusal out. A clone is one `Arc`'s.
#[derive(Clone)]
pub struct Stack(Call<Session, Result<Opened, Refusal>>);

impl Stack {
    /// Erases a service.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Session, Response = Opened, Error = Refusal> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(Arc::new(move |session| Box::pin(service.clone().call(session))))
    }
}

impl Service<Session> for Stack {
    type Response = Opened;
    type Error = Refusal;
    type Future = BoxFuture<Result<Opened, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, session: Session) -> Self::Future {
        (self.0)(session)
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stack")
    }
}

/// The outermost layer: a connection in, many sessions out.
#[derive(Clone)]
pub struct Front(Call<Connection, ()>);

impl Front {
    /// Erases a service.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Connection, Response = (), Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(Arc::new(move |connection| {
            let call = service.clone().call(connection);
            Box::pin(async move {
                let Ok(()) = call.await;
            })
        }))
    }

    /// Serves a connection to its end.
    pub fn serve(&self, connection: Connection) -> BoxFuture<()> {
        (self.0)(connection)
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Front")
    }
}
