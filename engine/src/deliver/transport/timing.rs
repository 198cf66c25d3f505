//! How long the steps of one exchange take.
//!
//! The client says nothing of its steps, but it calls our resolver and our connectors for them. Each
//! is wrapped in a [`Watched`], which tells a [`Stopwatch`] how long the call took. Senders use the
//! steps as they are.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport};

use crate::clock::Clock;

/// How long each step took; `None` for one that was not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Getting the authorization, a token request included.
    pub(crate) token: Option<Duration>,
    /// From the endpoint's name to addresses.
    pub(crate) resolve: Option<Duration>,
    /// From an address to a connection.
    pub(crate) connect: Option<Duration>,
    /// The handshake of TLS; next to nothing without TLS.
    pub(crate) tls: Option<Duration>,
    /// From before the name was resolved to the last byte of the answer.
    pub(crate) exchange: Option<Duration>,
}

/// One of the [`Times`].
type Step = fn(&mut Times) -> &mut Option<Duration>;

/// Measures steps.
pub(super) struct Stopwatch {
    clock: Arc<dyn Clock>,
    times: Mutex<Times>,
}

impl Stopwatch {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, times: Mutex::default() }
    }

    /// Runs `work` and notes how long it took, whether it succeeds or not.
    pub(super) fn time<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        let start = self.clock.moment();
        let done = work();
        let took = self.clock.moment().since(start);
        *step(&mut self.times.lock().expect("no holder of the times panics")) = Some(took);
        done
    }

    pub(super) fn times(&self) -> Times {
        *self.times.lock().expect("no holder of the times panics")
    }
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopwatch").finish_non_exhaustive()
    }
}

/// A step of the client that is measured.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    watch: Arc<Stopwatch>,
    step: Step,
}

impl<T> Watched<T> {
    pub(super) fn resolving(inner: T, watch: &Arc<Stopwatch>) -> Self {
        Self { inner, watch: Arc::clone(watch), step: |times| &mut times.resolve }
    }

    pub(super) fn connecting(inner: T, watch: &Arc<Stopwatch>) -> Self {
        Self { inner, watch: Arc::clone(watch), step: |times| &mut times.connect }
    }

    pub(super) fn securing(inner: T, watch: &Arc<Stopwatch>) -> Self {
        Self { inner, watch: Arc::clone(watch), step: |times| &mut times.tls }
    }
}

impl<T: Resolver> Resolver for Watched<T> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.watch.time(self.step, || self.inner.resolve(uri, config, timeout))
    }
}

impl<In: Transport, T: Connector<In>> Connector<In> for Watched<T> {
    type Out = T::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        self.watch.time(self.step, || self.inner.connect(details, chained))
    }
}
