//! One login at a remote, and the links that are kept to it.
//!
//! Invariant: while it is not stopped it works towards its number of links, for ever and with growing pauses; no
//! session is given a link before the remote has said that it knows the login, or that it is no remote of ours.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::tunnel::{AccountView, TunnelError, TunnelState, TunnelStatus, unix_now};
use swiftproxy_core::workers::Workers;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::link::{Link, Place};
use super::remote::Remote;
use super::silence::{BRIEF, PATIENCE};
use super::{Settings, account, dial};

/// How often the account is asked for anew while connected.
const REFRESH: Duration = Duration::from_secs(10);

/// A link of the session's own worker may carry twice the streams of another, and so many more.
const AWAY: usize = 4;

/// The pauses between attempts.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(8);

/// The pause after a login that was rejected: more attempts would look like guessing.
const REJECTED: Duration = Duration::from_secs(30);

/// How an uplink is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Not yet.
    Run,
    /// Takes no new session; open ones go on.
    Retire,
    /// Ends its sessions too.
    Cut,
}

/// A login at a remote.
#[derive(Debug)]
pub(super) struct Uplink {
    /// Where and as whom.
    pub(super) remote: Remote,
    tls: OnceCell<Option<Arc<ClientConfig>>>,
    /// The remote does not know the lean engine.
    foreign: Arc<AtomicBool>,
    links: Mutex<Vec<Arc<Link>>>,
    report: Mutex<Report>,
    stop: watch::Sender<Stop>,
    settings: watch::Receiver<Settings>,
    changed: watch::Sender<()>,
    workers: Arc<Workers>,
}

/// Which links will do for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Those against which nothing speaks.
    Calm,
    /// Those too that are being asked.
    NotSilent,
}

#[derive(Debug)]
struct Report {
    connected: bool,
    /// It is not, because the last link was lost or is silent; should one be heard, it is again.
    lost: bool,
    verified: bool,
    since: u64,
    error: Option<TunnelError>,
    account: Option<AccountView>,
}

impl Uplink {
    /// A login of which nothing was tried yet.
    pub(super) fn new(
        remote: Remote,
        settings: watch::Receiver<Settings>,
        changed: watch::Sender<()>,
        workers: Arc<Workers>,
    ) -> Arc<Self> {
        let report = Report {
            connected: false,
            lost: false,
            verified: false,
            since: unix_now(),
            error: None,
            account: None,
        };
        Arc::new(Self {
            remote,
            tls: OnceCell::new(),
            foreign: Arc::default(),
            links: Mutex::default(),
            report: Mutex::new(report),
            stop: watch::Sender::new(Stop::Run),
            settings,
            changed,
            workers,
        })
    }

    /// How it is.
    pub(super) fn status(&self) -> TunnelStatus {
        let rtt = self.links().iter().find_map(|link| link.rtt());
        let report = self.report();
        TunnelStatus {
            state: if report.connected { TunnelState::Connected } else { TunnelState::Connecting },
            server: Some(self.remote.authority.clone()),
            username: self.remote.credentials.as_ref().map(|login| login.name.to_string()),
            verified: report.verified,
            since: report.since,
            rtt_ms: rtt.map(|rtt| rtt.as_micros() as f64 / 1000.0),
            error: report.error.clone(),
            account: report.account.clone(),
        }
    }

    /// Whether the remote is one of ours that knows the login.
    pub(super) fn is_verified(&self) -> bool {
        self.report().verified
    }

    /// A place for a session on the link that it suits best; none while there is no such link.
    ///
    /// # Errors
    /// Waiting is no use: the remote rejects the login.
    pub(super) fn place(&self, choice: Choice) -> Result<Option<Place>, Refusal> {
        if let Some(error) = &self.report().error
            && let Some(refusal) = hopeless(error)
        {
            return Err(refusal);
        }
        let links = self.links();
        let open = links.iter().filter(|link| {
            link.is_open()
                && match choice {
                    Choice::Calm => link.is_calm(),
                    Choice::NotSilent => !link.is_silent(),
                }
        });
        // One of another worker's is worth it where it has much less to carry: each byte wakes that one, too.
        let here = Workers::here();
        let load = |link: &&Arc<Link>| {
            let (bulk, streams) = link.load();
            (bulk, if link.worker() == here { streams } else { 2 * streams + AWAY })
        };
        Ok(open.min_by_key(load).map(Link::place))
    }

    /// The worker that has the fewest of its links.
    fn next_worker(&self) -> usize {
        let links = self.links();
        let has = |worker: &usize| links.iter().filter(|link| link.worker() == Some(*worker)).count();
        (0..self.workers.count()).min_by_key(has).unwrap_or(0)
    }

    /// Logs in over one more link, for the remote soon closes one over which nobody did.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn log_in(&self) -> Result<(), TunnelError> {
        let within = self.settings.borrow().connect_timeout;
        let attempt = async {
            let tls = self.tls.get_or_try_init(|| dial::trust(&self.remote)).await?;
            let foreign = self.settings.borrow().lean.then(|| self.foreign.clone());
            let (remote, tls, changed) = (self.remote.clone(), tls.clone(), self.changed.clone());
            // There it stays: whoever gives the wait up drops what came of it.
            let dialled = self.workers.run(self.next_worker(), async move {
                dial::dial(&remote, tls.as_ref(), foreign.as_deref(), changed).await.map(Untried::new)
            });
            let stopped = || Err(TunnelError::new("internal", "The attempt was given up."));
            let link = dialled.await.unwrap_or_else(stopped)?;
            let view = link.ask(&self.remote).await?;
            Ok((link, view))
        };
        let (link, view) = timeout(within, attempt).await.unwrap_or_else(|_| {
            let message =
                format!("{} did not answer within {} s.", self.remote.authority, within.as_secs_f64());
            Err(TunnelError::new("timeout", message))
        })?;
        self.links().extend(link.passed());
        self.connected(view);
        Ok(())
    }

    /// Keeps the links until stopped.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            // First, or links that end because they were told to would be called lost.
            biased;
            _ = stop.wait_for(|stop| *stop != Stop::Run) => {}
            () = self.keep_on() => {}
        }
        let cut = *stop.borrow() == Stop::Cut;
        for link in self.links().drain(..) {
            if cut { link.cut() } else { link.retire() }
        }
        self.changed.send_replace(());
    }

    /// Ends it. The links that carry sessions on, for whoever may have to end those too.
    pub(super) fn stop(&self, stop: Stop) -> Vec<Arc<Link>> {
        let links = self.links().clone();
        self.stop.send_replace(stop);
        links
    }

    async fn keep_on(&self) {
        let mut changed = self.changed.subscribe();
        let mut settings = self.settings.clone();
        let mut pause = Pause::default();
        let (mut attempt, mut refresh) = (Instant::now(), Instant::now() + REFRESH);
        // Neither holds up what is to be seen and said of the links meanwhile.
        let (mut login, mut question) = (None, None);
        loop {
            changed.borrow_and_update();
            let want = settings.borrow_and_update().connections;
            let have = self.look(want);
            let now = Instant::now();
            if login.is_none() && have < want && attempt <= now {
                login = Some(Box::pin(self.log_in()));
            }
            if question.is_none() && have > 0 && refresh <= now {
                question = Some(Box::pin(self.refresh()));
                refresh = now + REFRESH;
            }
            let attempt_due = (login.is_none() && have < want).then_some(attempt);
            let refresh_due = (question.is_none() && have > 0).then_some(refresh);
            let next = attempt_due.into_iter().chain(refresh_due).min();
            tokio::select! {
                _ = changed.changed() => {}
                _ = settings.changed() => {}
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
                () = outcome(&mut question) => question = None,
                outcome = outcome(&mut login) => {
                    login = None;
                    match outcome {
                        Ok(()) => pause.reset(),
                        Err(error) => {
                            attempt = Instant::now() + pause.after(&error);
                            // While another link carries on, only the login is worth a word.
                            if self.look(want) == 0 || hopeless(&error).is_some() {
                                self.failed(error);
                            }
                        }
                    }
                    self.changed.send_replace(());
                }
            }
        }
    }

    /// Lets go of links that ended or are too many, and has the others asked where one broke or fell silent. How many
    /// there are that are not silent.
    fn look(&self, want: usize) -> usize {
        let mut links = self.links();
        let broke = links.iter().any(|link| !link.is_open() && link.broke());
        links.retain(|link| link.is_open());
        let alarm = links.iter().fold(false, |alarm, link| link.take_alarm() | alarm);
        for link in links.iter() {
            if broke {
                link.doubt(BRIEF);
            } else if alarm && link.is_calm() {
                link.doubt(PATIENCE);
            }
        }
        let open = links.len();
        let mut have = 0;
        let surplus: Vec<_> = links
            .extract_if(.., |link| {
                let heard = !link.is_silent();
                have += usize::from(heard);
                heard && have > want
            })
            .collect();
        drop(links);
        surplus.iter().for_each(|link| link.retire());
        self.report_links(have, open);
        have.min(want)
    }

    /// Says whether there is a link, of those that are `open`, to speak of.
    fn report_links(&self, have: usize, open: usize) {
        let at = &self.remote.authority;
        let mut report = self.report();
        if have == 0 && report.connected {
            let (label, message) = match open {
                0 => ("unreachable", format!("The connection to {at} was lost.")),
                _ => ("timeout", format!("{at} does not answer any more.")),
            };
            tracing::warn!(remote = at, "the tunnel is down");
            report.go(false, Some(TunnelError::new(label, message)));
            report.lost = true;
        } else if have > 0 && report.lost {
            tracing::info!(remote = at, "the tunnel is up again");
            report.go(true, None);
        }
    }

    /// Asks for the account anew, where it was told before; a login that was changed over there shows here.
    pub(super) async fn refresh(&self) {
        let (asked_before, rejected) = {
            let report = self.report();
            (report.verified, report.error.as_ref().is_some_and(|error| hopeless(error).is_some()))
        };
        let link =
            self.links().iter().filter(|link| link.is_open()).min_by_key(|link| link.streams()).cloned();
        let Some(link) = link.filter(|_| asked_before || rejected) else { return };
        link.ask();
        let within = self.settings.borrow().connect_timeout;
        match timeout(within, account::ask(&link.place(), &self.remote)).await {
            Ok(Ok(view)) => self.connected(view),
            Ok(Err(error)) if hopeless(&error).is_some() => self.failed(error),
            // The link's own watch finds out whether it lives.
            Ok(Err(_)) | Err(_) => {}
        }
    }

    fn connected(&self, view: Option<AccountView>) {
        let mut report = self.report();
        if !report.connected {
            tracing::info!(remote = self.remote.authority, verified = view.is_some(), "the tunnel is up");
        }
        report.verified = view.is_some();
        report.account = view;
        report.go(true, None);
    }

    /// Says what is wrong with it; told to the log once.
    pub(super) fn failed(&self, error: TunnelError) {
        let mut report = self.report();
        if report.error.as_ref() != Some(&error) {
            tracing::warn!(remote = self.remote.authority, label = error.label, "{error}");
        }
        let lost = report.lost && hopeless(&error).is_none();
        report.verified &= hopeless(&error).is_none();
        report.go(false, Some(error));
        report.lost = lost;
    }

    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    fn go(&mut self, connected: bool, error: Option<TunnelError>) {
        if self.connected != connected {
            self.since = unix_now();
        }
        self.connected = connected;
        self.lost = false;
        self.error = error;
    }
}

/// Waits for what is under way, if anything is.
async fn outcome<F: Future + Unpin>(under_way: &mut Option<F>) -> F::Output {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// A link over which nobody is logged in yet; ended unless it passes.
struct Untried(Option<Arc<Link>>);

impl Untried {
    fn new(link: Arc<Link>) -> Self {
        Self(Some(link))
    }

    async fn ask(&self, remote: &Remote) -> Result<Option<AccountView>, TunnelError> {
        match &self.0 {
            Some(link) => account::ask(&link.place(), remote).await,
            None => Ok(None),
        }
    }

    fn passed(mut self) -> Option<Arc<Link>> {
        self.0.take()
    }
}

impl Drop for Untried {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.cut();
        }
    }
}

/// What a session hears at once where the remote rejects the login or cannot be trusted.
fn hopeless(error: &TunnelError) -> Option<Refusal> {
    Some(match error.label {
        "auth_failed" | "auth_required" => Refusal::TunnelLogin,
        "account_disabled" => Refusal::AccountDisabled,
        "account_expired" => Refusal::AccountExpired,
        "quota_exceeded" => Refusal::QuotaExceeded,
        "certificate" | "bad_request" => Refusal::TunnelDown,
        _ => return None,
    })
}

/// The pauses between attempts: each about twice the one before, with a share of chance, so that a thousand
/// local roles do not return in step.
#[derive(Debug, Default)]
struct Pause(u32);

impl Pause {
    fn reset(&mut self) {
        self.0 = 0;
    }

    fn after(&mut self, error: &TunnelError) -> Duration {
        // Where the remote was not trusted, no login was sent.
        let whole = match hopeless(error) {
            Some(refusal) if refusal != Refusal::TunnelDown => REJECTED,
            _ => LONGEST.min(SHORTEST * (1 << self.0.min(8))),
        };
        self.0 = self.0.saturating_add(1);
        // The standard library's hasher keys are the randomness at hand.
        let chance = RandomState::new().hash_one(self.0) % 1024;
        whole / 2 + whole / 2 * chance as u32 / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let down = TunnelError::new("unreachable", "");
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..40).map(|_| pause.after(&down)).collect();
        assert!((SHORTEST / 2..=SHORTEST).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses[5..].iter().all(|pause| (LONGEST / 2..=LONGEST).contains(pause)), "{pauses:?}");
        assert!(pause.after(&TunnelError::new("auth_failed", "")) >= REJECTED / 2);
        assert!(pause.after(&TunnelError::new("certificate", "")) <= LONGEST, "it may be mended any moment");
        pause.reset();
        assert!(pause.after(&down) <= SHORTEST);
    }
}
