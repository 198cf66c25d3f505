//! `[[destination]]`: an HTTP endpoint, and how it wants to be treated.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::auth;
use super::endpoint;
use super::headers::{self, Authorization};
use super::identifier::Identifiers;
use super::query;
use super::secret_reference;
use super::table::Table;
use crate::deliver::settings::{AuthSettings, DestinationSettings, Reach, RetrySettings};
use crate::deliver::transport;
use crate::secret::Secret;

/// Stored exports that one destination may have, in bytes, where the configuration is silent.
pub const DEFAULT_DISK_BUDGET: u64 = 10_000_000_000;

/// Requests a second that can be asked for: beyond it nothing is limited.
const RATES: RangeInclusive<u32> = 1..=1_000_000;
/// Requests that can be open at once: each takes a thread.
const IN_FLIGHT: RangeInclusive<u32> = 1..=4096;
/// Retries that can be asked for: at the longest backoff some years.
const RETRIES: RangeInclusive<u32> = 0..=10_000;
/// Failures that can be asked for before a destination is paused.
const FAILURES: RangeInclusive<u32> = 1..=1_000_000;
/// How long a request may take.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(10);
/// How long a retry may be waited for.
const BACKOFFS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
/// How long a paused destination may rest; from there it doubles to the same limit.
const PROBES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);

/// A destination, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What delivery is told about it.
    pub settings: DestinationSettings,
    /// What people call it.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Whether payloads carry the names of mapped audiences.
    pub include_segment_names: bool,
    /// Whether payloads carry creation and change times of mapped audiences.
    pub include_segment_timestamps: bool,
    /// Stored exports it may have, in bytes, before further profiles are only marked.
    pub disk_budget: u64,
}

/// Reads all destinations; the ids of faulty ones are defined too, so that using them is no error.
pub(super) fn destinations(top: &mut Table<'_>) -> (Vec<Destination>, Identifiers) {
    let mut ids = Identifiers::of("destination");
    let mut destinations = Vec::new();
    for mut table in top.tables("destination", "`[[destination]]`") {
        let id = ids.define(&mut table);
        let destination = destination(&mut table, id.map_or_else(String::new, |id| id.value));
        destinations.extend(destination);
        table.finish();
    }
    (destinations, ids)
}

fn destination(table: &mut Table<'_>, id: String) -> Option<Destination> {
    let name = table.text("name").map_or_else(|| id.clone(), |name| name.value);
    let description = table.text("description").map_or_else(String::new, |text| text.value);
    let include_segment_names = table.flag("include_segment_names").unwrap_or(false);
    let include_segment_timestamps = table.flag("include_segment_timestamps").unwrap_or(false);
    let disk_budget = table.size("disk_budget").unwrap_or(DEFAULT_DISK_BUDGET);
    let settings = settings(table, id);
    Some(Destination {
        settings: settings?,
        name,
        description,
        include_segment_names,
        include_segment_timestamps,
        disk_budget,
    })
}

fn settings(table: &mut Table<'_>, id: String) -> Option<DestinationSettings> {
    let reach = Reach {
        allow_insecure: table.flag("allow_insecure").unwrap_or(false),
        allow_private: table.flag("allow_private").unwrap_or(false),
    };
    let endpoint = table.required("endpoint", |table, key| endpoint::url(table, key, reach));
    // A placeholder lets the rest be checked; without an endpoint the destination is dropped.
    let is_whole = endpoint.is_some();
    let placeholder = || Url::parse("https://invalid.invalid/").expect("it is a URL");
    let mut settings = DestinationSettings::new(id, endpoint.unwrap_or_else(placeholder));
    settings.reach = reach;
    query::append(table, &mut settings.endpoint);
    settings.auth = auth::auth(table, reach);
    let authorization = match settings.auth {
        AuthSettings::None => Authorization::Free,
        _ => Authorization::Auth,
    };
    settings.headers = headers::headers(table, authorization);
    settings.signing_secret = signing_secret(table);
    limits(table, &mut settings);
    tls(table, &mut settings);
    settings.source_address = source_address(table);
    is_whole.then_some(settings)
}

fn limits(table: &mut Table<'_>, settings: &mut DestinationSettings) {
    if let Some(timeout) = table.duration("timeout", TIMEOUTS) {
        settings.timeout = timeout;
    }
    if let Some(rate) = table.number("max_requests_per_second", RATES) {
        settings.max_requests_per_second = rate;
    }
    if let Some(in_flight) = table.number("max_in_flight", IN_FLIGHT) {
        settings.max_in_flight = in_flight as usize;
    }
    if let Some(failures) = table.number("breaker_failures", FAILURES) {
        settings.breaker_failures = failures;
    }
    if let Some(interval) = table.duration("probe_interval", PROBES) {
        settings.probe_interval = interval;
    }
    if let Some(mut retry) = table.table("retry", "`retry`") {
        settings.retry = read_retry(&mut retry);
        retry.finish();
    }
}

fn read_retry(table: &mut Table<'_>) -> RetrySettings {
    let mut retry = RetrySettings::default();
    if let Some(retries) = table.number("max_retries", RETRIES) {
        retry.max_retries = retries;
    }
    if let Some(backoff) = table.durations("backoff", BACKOFFS) {
        if backoff.is_empty() {
            let place = table.key_place("backoff").unwrap_or_else(|| table.place.clone());
            table.report().error(&place, "`backoff` has at least one duration");
        }
        retry.backoff = backoff;
    }
    retry
}

fn tls(table: &mut Table<'_>, settings: &mut DestinationSettings) {
    settings.ca_file = file(table, "ca_file");
    settings.client_cert = file(table, "client_cert");
    settings.client_key = file(table, "client_key");
    for (given, missing) in [("client_cert", "client_key"), ("client_key", "client_cert")] {
        if let Some(place) = table.key_place(given).filter(|_| !table.has(missing)) {
            table.report().error(&place, format!("`{given}` needs `{missing}`"));
        }
    }
    let trusted = settings.ca_file.as_deref().map(|path| transport::authorities(path).map(drop));
    let pair = settings.client_cert.as_deref().zip(settings.client_key.as_deref());
    let shown = pair.map(|(chain, key)| transport::client_certificate(chain, key).map(drop));
    for (key, checked) in [("ca_file", trusted), ("client_cert", shown)] {
        if let (Some(Err(message)), Some(place)) = (checked, table.key_place(key)) {
            table.report().error(&place, message);
        }
    }
}

/// A file named relative to the configuration; it must be there.
fn file(table: &mut Table<'_>, key: &'static str) -> Option<PathBuf> {
    let text = table.text(key)?;
    let path = table.reader.source.directory().join(&text.value);
    if let Err(error) = std::fs::File::open(&path) {
        let message = format!("the file `{}` cannot be read: {error}", path.display());
        table.report().error(&text.place, message);
        return None;
    }
    Some(path)
}

fn source_address(table: &mut Table<'_>) -> Option<std::net::IpAddr> {
    let text = table.text("source_address")?;
    let address = text.value.parse().ok();
    if address.is_none() {
        let help = Some("write the address itself, as in `203.0.113.7`".to_owned());
        let message = format!("`{}` is no IP address", text.value);
        table.report().error_with_help(&text.place, message, help);
    }
    address
}

fn signing_secret(table: &mut Table<'_>) -> Option<Secret> {
    let secret = secret_reference::secret(table, "signing_secret")?;
    let key = secret.expose().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    if key.is_none_or(|key| key.is_empty()) {
        let place = table.key_place("signing_secret").unwrap_or_else(|| table.place.clone());
        table.report().error(&place, "`signing_secret` is not `whsec_` and base64");
        return None;
    }
    Some(secret)
}
