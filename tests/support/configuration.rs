//! Configurations, put together from the tables that a test needs.
//!
//! Each function gives one table as text; a test joins them. `{receiver}` stands for the address of
//! the test's receiver until the configuration is written.

/// The event clock: time passes as the records say.
pub const EVENT_CLOCK: &str = "clock = \"event\"\n";

/// The usual destination: `sink`, on the test's receiver, patient and quick to try again.
pub const SINK: &str = r#"
[[destination]]
id = "sink"
name = "Sink"
endpoint = "{receiver}/in"
timeout = "10s"
retry = { max_retries = 2, backoff = ["20ms", "40ms"] }
"#;

/// The destination `sink` with further keys, which must not repeat those of [`SINK`].
pub fn sink_with(keys: &str) -> String {
    format!("{SINK}{keys}\n")
}

/// An audience by rule.
pub fn rule(id: &str, pql: &str) -> String {
    format!("\n[[audience]]\nid = \"{id}\"\nname = \"{id}\"\npql = '''{pql}'''\n")
}

/// A merge policy with further keys.
pub fn policy(id: &str, keys: &str) -> String {
    format!("\n[[merge_policy]]\nid = \"{id}\"\n{keys}\n")
}

/// An audience by import.
pub fn upload(id: &str, ttl: &str) -> String {
    format!("\n[[audience]]\nid = \"{id}\"\nname = \"{id}\"\ntype = \"upload\"\nttl = \"{ttl}\"\n")
}

/// A dataflow to `sink`.
pub fn dataflow(id: &str, audiences: &[&str], attributes: &[&str]) -> String {
    format!(
        "\n[[dataflow]]\nid = \"{id}\"\ndestination = \"sink\"\naudiences = {audiences:?}\n\
         attributes = {attributes:?}\n"
    )
}

/// A dataflow to `sink` with further keys.
pub fn dataflow_with(id: &str, audiences: &[&str], attributes: &[&str], keys: &str) -> String {
    format!("{}{keys}\n", dataflow(id, audiences, attributes))
}

/// The smallest whole: the event clock, one audience `any` by `rule`, and `d` that maps it and `n`.
pub fn one_audience(pql: &str) -> String {
    [EVENT_CLOCK, &rule("any", pql), SINK, &dataflow("d", &["any"], &["n"])].concat()
}
