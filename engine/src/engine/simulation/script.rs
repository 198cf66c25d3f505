//! What a seed puts into a world: its configuration, and the lines of its input.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::super::checkpoint_policy::CheckpointPolicy;
use super::random::Random;
use crate::clock::{ClockKind, Timestamp};
use crate::config::Config;

/// Where a world's time starts: 2026-01-01T00:00:00Z.
pub(super) const START_MS: i64 = 1_767_225_600_000;

/// From one line to the next, about.
const STEP_MS: u64 = 11 * 60_000;

/// What is decided before the first step.
pub(super) struct Script {
    pub(super) clock: ClockKind,
    pub(super) configs: Vec<Config>,
    /// Whether there is so little room that profiles are only marked.
    pub(super) is_tight: bool,
    /// The lines of the file that is read, and where it stops being any.
    pub(super) lines: Vec<Line>,
    /// When checkpoints are made.
    pub(super) checkpoints: CheckpointPolicy,
    /// Steps from one trouble to the next, about.
    pub(super) trouble_in: u64,
}

/// A line of the input.
pub(super) struct Line {
    pub(super) text: String,
    pub(super) is_good: bool,
}

impl Script {
    pub(super) fn new(random: &mut Random, scratch: &Path) -> Self {
        let clock = *random.pick(&[ClockKind::Event, ClockKind::Wall]);
        let customers = random.within(2, 10);
        let count = random.within(10, 80);
        let first_ms = match clock {
            ClockKind::Event => START_MS,
            // Nobody may tell of what is yet to come.
            ClockKind::Wall => START_MS - i64::try_from(count * STEP_MS).expect("it is short"),
        };
        let mut writer = Lines { random: random.split(), customers, first_ms, written: 0 };
        let lines = (0..count).map(|_| writer.line()).collect();
        let is_tight = random.one_in(4);
        let configs = (0..random.within(1, 4))
            .map(|_| {
                let text = configuration(random, (clock, is_tight));
                load(&text, &scratch.join("forebay.toml"))
            })
            .collect();
        let trouble_in = *random.pick(&[25, 50, 100, 400]);
        let rare = CheckpointPolicy { entries_max: 20, ..CheckpointPolicy::NEVER };
        let checkpoints = *random.pick(&[CheckpointPolicy::NEVER, rare, CheckpointPolicy::EAGER]);
        Self { clock, configs, is_tight, lines, checkpoints, trouble_in }
    }

    /// These lines, and no trouble but what is asked for.
    pub(super) fn of_lines(random: &mut Random, scratch: &Path, lines: Vec<Line>) -> Self {
        let clock = ClockKind::Event;
        let config = load(&configuration(random, (clock, false)), &scratch.join("forebay.toml"));
        let checkpoints = CheckpointPolicy::NEVER;
        let (configs, is_tight, trouble_in) = (vec![config], false, u64::MAX);
        Self { clock, configs, is_tight, lines, checkpoints, trouble_in }
    }
}

fn load(text: &str, path: &Path) -> Config {
    fs::write(path, text).expect("a file can be written");
    match crate::check::load(path, &|_| None) {
        Ok(config) => config,
        Err(faults) => panic!("{faults}\n{text}"),
    }
}

fn configuration(random: &mut Random, (clock, is_tight): (ClockKind, bool)) -> String {
    let mut text = format!("clock = \"{}\"\nexited_retention = \"3h\"\n", clock.as_str());
    text.push_str(
        r#"dedupe_window = "4h"
[[merge_policy]]
id = "linked"
default = true
identity_graph = "pdg"
[[merge_policy]]
id = "single"
identity_graph = "none"
[[audience]]
id = "alone"
merge_policy = "single"
pql = 'xEvent.count() > 1'
[[audience]]
id = "recent"
pql = 'xEvent[timestamp occurs <= 2 hours before now].count() >= 2'
[[audience]]
id = "us"
pql = 'country = "US"'
[[audience]]
id = "calm"
pql = 'inSegment("us") and not(inSegment("recent"))'
[[audience]]
id = "vip"
type = "upload"
ttl = "5h"
"#,
    );
    let least = random.pick(&[3, 12, 20]);
    writeln!(
        text,
        "[[audience]]\nid = \"big\"\npql = 'xEvent[eventType = \"buy\"].sum(v) > {least}'"
    )
    .expect("text grows");
    let destinations = random.within(1, 2);
    for number in 0..destinations {
        destination(&mut text, number, random);
        if is_tight {
            text.push_str("disk_budget = \"1KB\"\n");
        }
    }
    for number in 0..random.within(1, 3) {
        let to = random.below(destinations);
        dataflow(&mut text, (number, to), random);
    }
    text
}

fn destination(text: &mut String, number: u64, random: &mut Random) {
    let rate = random.pick(&[3, 20, 1000]);
    let in_flight = random.within(1, 4);
    let failures = random.pick(&[2, 5, 1000]);
    let retries = random.within(0, 3);
    writeln!(
        text,
        "[[destination]]\nid = \"d{number}\"\nendpoint = \"http://127.0.0.1:9/d{number}\"\n\
         max_requests_per_second = {rate}\nmax_in_flight = {in_flight}\n\
         breaker_failures = {failures}\nprobe_interval = \"500ms\"\n\
         retry = {{ max_retries = {retries}, backoff = [\"200ms\", \"1s\"] }}"
    )
    .expect("text grows");
}

fn dataflow(text: &mut String, (number, to): (u64, u64), random: &mut Random) {
    let sets = [
        r#"["big", "recent"]"#,
        r#"["us", "vip"]"#,
        r#"["big", "recent", "us", "calm", "vip"]"#,
        r#"["calm"]"#,
        r#"["alone", "us"]"#,
    ];
    let audiences = random.pick(&sets);
    let attributes = random.pick(&[r#"["n"]"#, r#"["n", "country"]"#, r#"["person"]"#]);
    writeln!(
        text,
        "[[dataflow]]\nid = \"f{number}\"\ndestination = \"d{to}\"\naudiences = {audiences}\n\
         attributes = {attributes}"
    )
    .expect("text grows");
    if random.one_in(4) {
        text.push_str("memberships = \"mapped\"\n");
    }
    if random.one_in(6) {
        text.push_str("backlog = \"latest\"\n");
    }
    if random.one_in(8) {
        text.push_str("paused = true\n");
    }
    if random.one_in(4) {
        text.push_str("same_value_writes = \"ignore\"\n");
    }
}

/// Writes lines one after another.
struct Lines {
    random: Random,
    customers: u64,
    first_ms: i64,
    written: u64,
}

impl Lines {
    fn line(&mut self) -> Line {
        let number = self.written;
        self.written += 1;
        let text = match self.random.below(20) {
            0 => return Line { text: format!("{{\"nonsense\":{number}}}"), is_good: false },
            1..=7 => self.profile(number),
            8..=16 => self.event(number),
            17..=18 => self.membership(number),
            _ => {
                let map = self.identities();
                format!(r#"{{"delete":{{"identityMap":{map}}},"line":{number}}}"#)
            }
        };
        Line { text, is_good: true }
    }

    /// Some minutes after the line before, at times before it.
    fn time(&mut self, number: u64) -> String {
        let ahead = i64::try_from(number * STEP_MS).expect("few lines");
        let back = i64::try_from(self.random.below(4 * STEP_MS)).expect("it is short");
        Timestamp::from_millis(self.first_ms + ahead - back).to_string()
    }

    fn identities(&mut self) -> String {
        let customer = self.random.below(self.customers);
        let mail = self.random.below(self.customers * 2);
        let crm = format!(r#""CRMID":[{{"id":"c{customer}"}}]"#);
        match self.random.below(6) {
            0 => format!(r#"{{{crm},"Email":[{{"id":"m{mail}"}}]}}"#),
            1 => format!(r#"{{"Email":[{{"id":"m{mail}"}}]}}"#),
            _ => format!("{{{crm}}}"),
        }
    }

    fn profile(&mut self, number: u64) -> String {
        let (map, time) = (self.identities(), self.time(number));
        let country = self.random.pick(&["US", "FR", "US"]);
        let value = match self.random.below(4) {
            0 => "null".to_owned(),
            1 => number.to_string(),
            _ => self.random.below(3).to_string(),
        };
        let rest = match self.random.below(3) {
            0 => format!(r#","country":"{country}""#),
            1 => format!(r#","person":{{"name":{{"firstName":"A{number}"}}}}"#),
            _ => String::new(),
        };
        format!(
            r#"{{"profile":{{"identityMap":{map},"n":{value}{rest}}},"timestamp":"{time}","line":{number}}}"#
        )
    }

    fn event(&mut self, number: u64) -> String {
        let (map, time) = (self.identities(), self.time(number));
        let id = if self.random.one_in(8) { number / 2 } else { number };
        let kind = self.random.pick(&["buy", "look"]);
        let value = self.random.below(10);
        format!(
            r#"{{"event":{{"_id":"e{id}","timestamp":"{time}","eventType":"{kind}","identityMap":{map},"v":{value}}},"line":{number}}}"#
        )
    }

    fn membership(&mut self, number: u64) -> String {
        let (map, time) = (self.identities(), self.time(number));
        let status = self.random.pick(&["realized", "realized", "exited"]);
        format!(
            r#"{{"membership":{{"audience":"vip","identityMap":{map},"status":"{status}"}},"timestamp":"{time}","line":{number}}}"#
        )
    }
}
