//! The HTTP interface: every path is described, every answer is as described, and the metrics can be scraped.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use ofshim::io::endpoints::ENDPOINTS;
use serde_json::Value;
use support::{Controller, Folder, ofshim, refusal};

/// Status, head and body of what is answered to `GET target`.
fn get(mut stream: impl Read + Write, target: &str) -> (u16, String, String) {
    write!(stream, "GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

fn ask(controller: &Controller, target: &str) -> (u16, String, String) {
    get(UnixStream::connect(Path::new(&controller.run_dir()).join("ofshim.sock")).unwrap(), target)
}

/// Says where `value` is not as `schema` has it: the part of JSON Schema that the document uses, and nothing that it
/// does not name.
fn judge(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{at}: {what}: {value}"));
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target =
            document.pointer(reference.trim_start_matches('#')).ok_or(format!("{reference} is nowhere"))?;
        return judge(document, target, value, at);
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let judged: Vec<_> = any.iter().map(|one| judge(document, one, value, at)).collect();
        return if judged.iter().any(Result::is_ok) { Ok(()) } else { wrong(format!("none of {judged:?}")) };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        other => return wrong(format!("a schema without a type: {other}")),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.contains(&kind) {
        return wrong(format!("is a {kind}, not {kinds:?}"));
    }
    if let Value::Array(items) = value {
        items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| judge(document, &schema["items"], item, &format!("{at}[{i}]")))?;
    }
    let Value::Object(fields) = value else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return wrong(format!("lacks {name}"));
        }
    }
    for (name, field) in fields {
        let described = schema["properties"].get(name).or(schema.get("additionalProperties"));
        let Some(described) = described else { return wrong(format!("{name} is not described")) };
        judge(document, described, field, &format!("{at}.{name}"))?;
    }
    Ok(())
}

#[test]
fn every_path_is_described_and_answers_as_described() {
    let controller = Controller::start(&["--no-discovery"]);
    let printed = ofshim(&["openapi"]);
    assert!(printed.status.success());
    let document: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let (status, head, served) = ask(&controller, "/openapi.json");
    assert!(status == 200 && head.contains("application/json"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(&served).unwrap(), document);

    let described: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let (status, _, told) = ask(&controller, "/nowhere");
    assert_eq!(status, 404);
    let told = told.split("GET ").nth(1).unwrap().replace("; POST ", ", ");
    let routes = told.split(", ").collect::<BTreeSet<_>>();
    assert_eq!(routes, described, "what is served, and what is described");
    let names: BTreeSet<_> = ENDPOINTS.iter().map(|endpoint| endpoint.operation).collect();
    assert_eq!(names.len(), ENDPOINTS.len(), "each has its own name");

    // A switch with ports, hosts and flows, so that lists have something in them.
    let mut stream = TcpStream::connect(controller.address()).unwrap();
    support::switch::become_ready(&mut stream, 0xab);
    controller.wait_for_log("is ready: OpenFlow 1.3");
    support::switch::two_hosts(&mut stream);
    controller.wait("two entries", || controller.read("flows")["flows"].as_array().unwrap().len() == 2);
    let questions = [
        ("/v1/status", ""),
        ("/v1/topology", ""),
        ("/v1/hosts", ""),
        ("/v1/flows", ""),
        ("/v1/route", "?from=ab:1&to=ab:2&k=3"),
        ("/v1/explain", "?from=10.0.0.1&to=10.0.0.2&protocol=17&src_port=40000&dst_port=80"),
    ];
    for (path, fields) in questions {
        let (status, head, body) = ask(&controller, &format!("{path}{fields}"));
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let schema =
            &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let value: Value = serde_json::from_str(&body).unwrap();
        judge(&document, schema, &value, path).unwrap();
        assert!(judge(&document, schema, &Value::from(7), path).is_err(), "{path}: anything would do");
    }
    let read = ENDPOINTS.iter().filter(|endpoint| !endpoint.changes).count();
    assert_eq!(questions.len() + 3, read, "all but the metrics, the document itself, and the hand-over");

    for (target, line) in [
        ("/v1/status?a=b", "/v1/status has no field \"a\"; it takes no field"),
        ("/v1/route?from=1:1", "the field \"to\" is missing"),
        ("/v1/route?from=9:1&to=9:2", "no connected switch has a port 0000000000000009:1"),
    ] {
        assert_eq!(ask(&controller, target), (400, ask(&controller, target).1, line.to_owned()));
    }
}

#[test]
fn the_metrics_can_be_scraped() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let controller = Controller::start(&["--metrics", &address]);
    let mut stream = TcpStream::connect(controller.address()).unwrap();
    support::switch::become_ready(&mut stream, 0xab);
    controller.wait_for_log("is ready: OpenFlow 1.3");
    let (status, head, text) = ask(&controller, "/metrics");
    assert!(status == 200 && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for line in [
        "ofshim_sessions 1",
        "ofshim_connections_opened_total 1",
        "ofshim_messages_total{direction=\"in\",type=\"features_reply\",openflow=\"1.3\"} 1",
        "ofshim_messages_total{direction=\"out\",type=\"features_request\",openflow=\"1.3\"} 1",
        "ofshim_messages_total{direction=\"out\",type=\"flow_mod\",openflow=\"1.3\"} 3",
        "ofshim_switch_ports{switch=\"00000000000000ab\"} 2",
        "ofshim_switch_waiting_bytes{switch=\"00000000000000ab\"} 0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
    }
    // The same by command, and by TCP, where nothing else is told.
    let command = ofshim(&["metrics", "--run-dir", &controller.run_dir()]);
    assert!(String::from_utf8(command.stdout).unwrap().contains("ofshim_sessions 1\n"));
    assert!(get(TcpStream::connect(&address).unwrap(), "/metrics").2.contains("ofshim_sessions 1\n"));
    assert_eq!(get(TcpStream::connect(&address).unwrap(), "/v1/status").0, 404);
    // What a closed connection counted is not lost.
    drop(stream);
    controller.wait_for_log("disconnected");
    let (_, _, text) = ask(&controller, "/metrics");
    assert!(
        text.contains("type=\"features_reply\",openflow=\"1.3\"} 1\n")
            && text.contains("ofshim_sessions 0\n")
    );
}

#[test]
fn an_address_for_metrics_that_is_taken_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let run_dir = folder.0.display().to_string();
    let line = refusal(&["run", "--run-dir", &run_dir, "--listen", "127.0.0.1:0", "--metrics", &address]);
    assert!(line.starts_with(&format!("error: --metrics {address}: cannot listen there: ")), "{line}");
}
