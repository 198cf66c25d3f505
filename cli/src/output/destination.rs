//! Destinations, for people, and what came of a sample.

use forebay_engine::views::{DestinationView, HeaderView, TimingView, TrialView};

use super::printable;
use super::span::span;
use super::table::{counted, number};

/// Draws one destination in a few lines.
pub(crate) fn destination_entry(view: &DestinationView) -> String {
    let name = if view.name == view.id { String::new() } else { format!("  {}", view.name) };
    let signed = if view.signed { ", signed" } else { "" };
    let dataflows =
        if view.dataflows.is_empty() { "none".to_owned() } else { view.dataflows.join(", ") };
    format!(
        "{}{name}\n  \
         endpoint   {}\n  \
         auth       {}{signed}\n  \
         limits     {}/s and {} open for each dataflow, timeout {}, retries {}\n  \
         dataflows  {dataflows}\n  \
         state      {}",
        view.id,
        view.endpoint,
        view.auth,
        counted(view.max_requests_per_second.into(), "request"),
        number(view.max_in_flight),
        span(view.timeout_ms),
        view.max_retries,
        destination_state(view),
    )
}

/// How a destination does, and what failed last.
pub(crate) fn destination_state(view: &DestinationView) -> String {
    let state = match view.state.as_str() {
        "paused_by_breaker" => {
            format!("paused by the breaker for {}", span(view.paused_for_ms.unwrap_or(0)))
        }
        "paused_by_410" => "paused by a 410 until the next run".to_owned(),
        "paused" => "paused by the configuration".to_owned(),
        "unused" => "no dataflow sends to it".to_owned(),
        "stopped" => "no engine is running".to_owned(),
        other => other.to_owned(),
    };
    let Some(error) = &view.last_error else { return state };
    let at = view.last_error_at.as_deref().unwrap_or_default();
    format!("{state}; last error: {error} ({at})")
}

/// Draws what was sent, what came back, and how long it took.
pub(crate) fn trial_text(trial: &TrialView) -> String {
    let request = &trial.request;
    let mut lines = vec![format!("destination {}: {}\n", trial.destination, request.url)];
    lines.push(format!("> {}", request.line));
    lines.extend(headers('>', &request.headers));
    lines.push(format!("> \n> {}\n", request.body.get()));
    if let Some(answer) = &trial.answer {
        lines.push(format!("< {}", answer.status));
        lines.extend(headers('<', &answer.headers));
        if !answer.body.is_empty() {
            lines.push("< ".to_owned());
            lines.extend(answer.body.lines().map(|line| format!("< {}", printable(line))));
        }
        lines.push(String::new());
    }
    lines.push(format!("timing  {}", timing(&trial.timing_ms)));
    lines.push(format!("result  {}", result(trial)));
    lines.join("\n")
}

fn headers(mark: char, headers: &[HeaderView]) -> impl Iterator<Item = String> {
    headers
        .iter()
        .map(move |header| format!("{mark} {}: {}", header.name, printable(&header.value)))
}

fn timing(ms: &TimingView) -> String {
    let steps =
        [("token", ms.token), ("resolve", ms.resolve), ("connect", ms.connect), ("tls", ms.tls)];
    let mut parts: Vec<String> =
        steps.iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {ms:.1} ms"))).collect();
    parts.push(format!("total {:.1} ms", ms.total));
    parts.join(", ")
}

fn result(trial: &TrialView) -> String {
    match (&trial.answer, &trial.error) {
        (Some(answer), _) if trial.ok => format!("taken ({})", answer.status),
        (Some(answer), _) => format!("not taken: status {}", answer.status),
        (None, Some(error)) => format!("no answer: {error}"),
        (None, None) => "no answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use forebay_engine::views::{DestinationView, TrialView};

    use super::{destination_entry, trial_text};

    #[test]
    fn a_destination_is_told_in_six_lines() {
        let view = DestinationView {
            id: "warehouse".to_owned(),
            name: "Warehouse endpoint".to_owned(),
            endpoint: "https://example.com/in?key=[secret]".to_owned(),
            auth: "bearer".to_owned(),
            signed: true,
            max_requests_per_second: 10_000,
            max_in_flight: 64,
            timeout_ms: 2_000,
            max_retries: 2,
            dataflows: vec!["a".to_owned(), "b".to_owned()],
            state: "paused_by_breaker".to_owned(),
            paused_for_ms: Some(12_000),
            last_error: Some("timeout".to_owned()),
            last_error_at: Some("2026-01-01T00:00:00.000Z".to_owned()),
        };
        let expected = "\
warehouse  Warehouse endpoint
  endpoint   https://example.com/in?key=[secret]
  auth       bearer, signed
  limits     10,000 requests/s and 64 open for each dataflow, timeout 2 s, retries 2
  dataflows  a, b
  state      paused by the breaker for 12 s; last error: timeout (2026-01-01T00:00:00.000Z)";
        assert_eq!(destination_entry(&view), expected);
    }

    #[test]
    fn an_exchange_is_shown_as_it_went_over_the_wire() {
        let trial: TrialView = serde_json::from_str(
            r#"{"destination":"sink","ok":false,
            "request":{"line":"POST /in HTTP/1.1","url":"http://127.0.0.1:1/in",
                "headers":[{"name":"host","value":"127.0.0.1:1"}],"body":{"n":1}},
            "answer":{"status":400,"headers":[{"name":"server","value":"x"}],"body":"no\u001b[2J\nway"},
            "error":null,
            "timing_ms":{"token":null,"resolve":0.04,"connect":0.25,"tls":null,"total":3.0}}"#,
        )
        .unwrap();
        let expected = "\
destination sink: http://127.0.0.1:1/in

> POST /in HTTP/1.1
> host: 127.0.0.1:1
> 
> {\"n\":1}

< 400
< server: x
< 
< no\u{fffd}[2J
< way

timing  resolve 0.0 ms, connect 0.2 ms, total 3.0 ms
result  not taken: status 400";
        assert_eq!(trial_text(&trial), expected);
    }
}
