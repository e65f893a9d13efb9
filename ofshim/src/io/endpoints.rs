//! What may be asked and ordered over HTTP: two tables, from which the socket is served and the OpenAPI document is made.

use std::collections::BTreeMap;
use std::str::FromStr;

use lb_core::host::handover::Handover;
use lb_core::host::overlay::Order;
use schemars::{Schema, SchemaGenerator};

use crate::core::balance::BackendOrder;
use crate::core::net::explain::{Asked as Flow, End, MAX_PATHS};
use crate::core::net::handover::Taken;
use crate::core::view;

/// What may be asked of the controller, or ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `/v1/status`
    Status,
    /// `/v1/topology`
    Topology,
    /// `/v1/hosts`
    Hosts,
    /// `/v1/flows`
    Flows,
    /// `/v1/route`
    Route {
        /// Where it starts.
        from: End,
        /// Where it ends.
        to: End,
        /// How many ways.
        k: usize,
    },
    /// `/v1/explain`
    Explain(Flow),
    /// `/v1/backend`
    Backend(BackendOrder),
    /// `/metrics`: text in a JSON string
    Metrics,
    /// `/openapi.json`
    OpenApi,
    /// `/v1/balancer/handover`
    Handover,
    /// `/v1/balancer/take`, an order
    Take(Box<Handover>),
    /// `/v1/balancer/release`, an order
    Release,
}

/// The fields of a question, by name.
pub type Fields = BTreeMap<String, String>;

/// Something that may be asked.
#[derive(Debug)]
pub struct Endpoint {
    /// Its path.
    pub path: &'static str,
    /// Whether something changes by it: it is a POST then.
    pub changes: bool,
    /// Its name, for programs that are made from the document.
    pub operation: &'static str,
    /// What it tells.
    pub summary: &'static str,
    /// The fields that it takes.
    pub fields: &'static [Field],
    /// What the answer is.
    pub answer: Answer,
    read: fn(&Fields) -> Result<Question, String>,
}

/// A field of a question.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Whether it has to be there.
    pub required: bool,
    /// What it is.
    pub summary: &'static str,
    /// Its JSON type: `string` or `integer`.
    pub kind: &'static str,
    /// The least and the greatest value of an integer.
    pub range: (u32, u32),
}

/// What an answer is.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// JSON of this schema.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// JSON that has a schema of its own.
    Document,
    /// Text of this type.
    Text(&'static str),
}

/// ICMP, the protocol of a question that names none.
const ICMP: u8 = 1;
const U16: (u32, u32) = (0, 65_535);
/// Milliseconds until a drain is over: 30 days at most.
const DEADLINE_MS: (u32, u32) = (0, 30 * 24 * 3_600_000);
const MAX_WEIGHT: u32 = lb_core::host::config::MAX_WEIGHT as u32;

const fn text(name: &'static str, summary: &'static str) -> Field {
    Field { name, required: true, summary, kind: "string", range: (0, 0) }
}

const fn optional(name: &'static str, summary: &'static str) -> Field {
    Field { required: false, ..text(name, summary) }
}

const fn number(name: &'static str, summary: &'static str, range: (u32, u32)) -> Field {
    Field { name, required: false, summary, kind: "integer", range }
}

/// All that may be asked.
pub const ENDPOINTS: [Endpoint; 10] = [
    Endpoint {
        path: "/v1/status",
        changes: false,
        operation: "status",
        summary: "The controller, its switches, and what it knows of the balancer",
        fields: &[],
        answer: Answer::Json(SchemaGenerator::subschema_for::<view::Status>),
        read: |_| Ok(Question::Status),
    },
    Endpoint {
        path: "/v1/topology",
        changes: false,
        operation: "topology",
        summary: "The switches with their ports, the links, the clusters",
        fields: &[],
        answer: Answer::Json(SchemaGenerator::subschema_for::<view::Topology>),
        read: |_| Ok(Question::Topology),
    },
    Endpoint {
        path: "/v1/hosts",
        changes: false,
        operation: "hosts",
        summary: "The known hosts",
        fields: &[],
        answer: Answer::Json(SchemaGenerator::subschema_for::<view::Hosts>),
        read: |_| Ok(Question::Hosts),
    },
    Endpoint {
        path: "/v1/flows",
        changes: false,
        operation: "flows",
        summary: "The controller's own flow entries",
        fields: &[],
        answer: Answer::Json(SchemaGenerator::subschema_for::<view::Flows>),
        read: |_| Ok(Question::Flows),
    },
    Endpoint {
        path: "/v1/route",
        changes: false,
        operation: "route",
        summary: "The shortest ways from one host or port to another",
        fields: &[
            text("from", "Where it starts: a MAC, an IP address, or a port as 0000000000000001:3"),
            text("to", "Where it ends, written the same"),
            number("k", "How many ways, cheapest first [default: 1]", (1, MAX_PATHS as u32)),
        ],
        answer: Answer::Json(SchemaGenerator::subschema_for::<view::Route>),
        read: |fields| {
            let (from, to) = (required(fields, "from")?, required(fields, "to")?);
            Ok(Question::Route { from, to, k: field(fields, "k")?.unwrap_or(1) })
        },
    },
    Endpoint {
        path: "/v1/explain",
        changes: false,
        operation: "explain",
        summary: "Where a flow would go, and why",
        fields: &[
            text("from", "The host that sends: a MAC or an IP address"),
            text("to", "The host or VIP that it sends to"),
            number("protocol", "IP protocol [default: 1, ICMP]", (0, 255)),
            number("src_port", "Source port of TCP and UDP; with dst_port", U16),
            number("dst_port", "Destination port of TCP and UDP; with src_port", U16),
            number("vlan", "VLAN id [default: the sender's]", (0, 4095)),
        ],
        answer: Answer::Json(SchemaGenerator::subschema_for::<view::Explain>),
        read: |fields| {
            let ports = field(fields, "src_port")?.zip(field(fields, "dst_port")?);
            let protocol = field(fields, "protocol")?.unwrap_or(ICMP);
            let (from, to) = (required(fields, "from")?, required(fields, "to")?);
            Ok(Question::Explain(Flow { from, to, vlan: field(fields, "vlan")?, protocol, ports }))
        },
    },
    Endpoint {
        path: "/v1/backend",
        changes: true,
        operation: "backend",
        summary: "Drains, disables, enables, weighs, adds or removes a backend of a controller that balances by flow \
                  entries",
        fields: &[
            text("order", "drain, disable, enable, weight, add or remove"),
            text(
                "backend",
                "Name, address, or address and port; with order=add the new one's address and port",
            ),
            optional(
                "vip",
                "Name or key of its VIP [default: all that have such a backend, or the only one]",
            ),
            number("deadline_ms", "With order=drain: after so many milliseconds it is disabled", DEADLINE_MS),
            number("weight", "With order=weight, and with order=add [default: 1 there]", (0, MAX_WEIGHT)),
            optional("name", "With order=add: its name [default: its address]"),
        ],
        answer: Answer::Json(SchemaGenerator::subschema_for::<view::Balancing>),
        read: |fields| backend(fields).map(Question::Backend),
    },
    Endpoint {
        path: "/v1/balancer/handover",
        changes: false,
        operation: "balancerHandover",
        summary: "What is balanced for the balancer's daemon: its configuration, ids, health, tickets, all connections",
        fields: &[],
        answer: Answer::Document,
        read: |_| Ok(Question::Handover),
    },
    Endpoint {
        path: "/metrics",
        changes: false,
        operation: "metrics",
        summary: "The counters as Prometheus reads them",
        fields: &[],
        answer: Answer::Text(crate::metrics::CONTENT_TYPE),
        read: |_| Ok(Question::Metrics),
    },
    Endpoint {
        path: "/openapi.json",
        changes: false,
        operation: "openapi",
        summary: "This document",
        fields: &[],
        answer: Answer::Document,
        read: |_| Ok(Question::OpenApi),
    },
];

/// Something that the balancer's daemon may order.
#[derive(Debug)]
pub struct DaemonOrder {
    /// Its path.
    pub path: &'static str,
    /// Its name, for programs that are made from the document.
    pub operation: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// What its JSON body is, if it has one.
    pub body: Option<&'static str>,
    /// What the answer is.
    pub answer: fn(&mut SchemaGenerator) -> Schema,
    read: fn(&[u8]) -> Result<Question, String>,
}

/// All that the balancer's daemon may order.
pub const DAEMON_ORDERS: [DaemonOrder; 2] = [
    DaemonOrder {
        path: "/v1/balancer/take",
        operation: "balancerTake",
        summary: "Balance by flow entries in the place of the daemon, which gives its state; answered when the switches \
                  have the entries. Given again, what is there stays",
        body: Some("As GET /v1/balancer/handover answers"),
        answer: SchemaGenerator::subschema_for::<Taken>,
        read: |body| {
            let given =
                serde_json::from_slice(body).map_err(|error| format!("the body is no hand-over: {error}"))?;
            Ok(Question::Take(Box::new(given)))
        },
    },
    DaemonOrder {
        path: "/v1/balancer/release",
        operation: "balancerRelease",
        summary: "Stop balancing in the place of the daemon; the entries go",
        body: None,
        answer: SchemaGenerator::subschema_for::<view::Released>,
        read: |_| Ok(Question::Release),
    },
];

impl DaemonOrder {
    /// The order that this body makes.
    ///
    /// # Errors
    /// The body has no sense. One line.
    pub fn order(&self, body: &[u8]) -> Result<Question, String> {
        (self.read)(body)
    }
}

impl Endpoint {
    /// The question that these fields make.
    ///
    /// # Errors
    /// A field is missing, not known, or has no sense. One line.
    pub fn question(&self, fields: &Fields) -> Result<Question, String> {
        for (name, value) in fields {
            let Some(known) = self.fields.iter().find(|field| field.name == name) else {
                let names: Vec<&str> = self.fields.iter().map(|field| field.name).collect();
                let takes = if names.is_empty() { "no field".to_owned() } else { names.join(", ") };
                return Err(format!("{} has no field {name:?}; it takes {takes}", self.path));
            };
            known.check(value)?;
        }
        (self.read)(fields)
    }
}

impl Field {
    fn check(&self, value: &str) -> Result<(), String> {
        let (least, greatest) = self.range;
        let fits = self.kind != "integer"
            || value.parse::<u32>().is_ok_and(|number| (least..=greatest).contains(&number));
        let name = self.name;
        if fits { Ok(()) } else { Err(format!("{name}={value:?} is no number from {least} to {greatest}")) }
    }
}

fn field<T: FromStr>(fields: &Fields, name: &str) -> Result<Option<T>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| format!("{name}={value:?} is not understood"))
}

fn backend(fields: &Fields) -> Result<BackendOrder, String> {
    let text = |name: &str| fields.get(name).cloned();
    let missing = |name: &str| format!("the field {name:?} is missing");
    let weight = field(fields, "weight")?;
    let word = text("order").ok_or_else(|| missing("order"))?;
    let order = match word.as_str() {
        "drain" => Order::Drain { deadline_ms: field(fields, "deadline_ms")? },
        "disable" => Order::Disable,
        "enable" => Order::Enable,
        "weight" => Order::Weight(weight.ok_or_else(|| missing("weight"))?),
        "add" => Order::Add { name: text("name"), weight: weight.unwrap_or(1) },
        "remove" => Order::Remove,
        other => {
            return Err(format!(
                "order={other:?} is not known; there are drain, disable, enable, weight, add and remove"
            ));
        }
    };
    let fits = [
        ("deadline_ms", word == "drain", "order=drain"),
        ("weight", matches!(order, Order::Weight(_) | Order::Add { .. }), "order=weight and order=add"),
        ("name", word == "add", "order=add"),
    ];
    if let Some((name, _, with)) =
        fits.into_iter().find(|(name, fits, _)| !fits && fields.contains_key(*name))
    {
        return Err(format!("the field {name:?} goes with {with}"));
    }
    let backend = text("backend").ok_or_else(|| missing("backend"))?;
    Ok(BackendOrder { backend, vip: text("vip"), order })
}

fn required(fields: &Fields, name: &str) -> Result<End, String> {
    fields.get(name).ok_or_else(|| format!("the field {name:?} is missing"))?.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str, fields: &[(&str, &str)]) -> Result<Question, String> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ENDPOINTS.iter().find(|endpoint| endpoint.path == path).unwrap().question(&fields)
    }

    #[test]
    fn orders_are_read_and_refused_by_name() {
        let read = |fields: &[(&str, &str)]| ask("/v1/backend", fields);
        let order =
            |order| Ok(Question::Backend(BackendOrder { backend: "h1".to_owned(), vip: None, order }));
        let of = |word| [("backend", "h1"), ("order", word)];
        assert_eq!(read(&of("drain")), order(Order::Drain { deadline_ms: None }));
        let more = |word, fields: &[(&'static str, &'static str)]| read(&[&of(word)[..], fields].concat());
        assert_eq!(more("drain", &[("deadline_ms", "500")]), order(Order::Drain { deadline_ms: Some(500) }));
        assert_eq!(more("weight", &[("weight", "3")]), order(Order::Weight(3)));
        assert_eq!(read(&of("add")), order(Order::Add { name: None, weight: 1 }));
        let named = Order::Add { name: Some("h4".to_owned()), weight: 2 };
        assert_eq!(more("add", &[("weight", "2"), ("name", "h4")]), order(named));
        assert_eq!(read(&of("remove")), order(Order::Remove));
        assert!(read(&of("weight")).unwrap_err().contains("\"weight\" is missing"));
        assert!(
            read(&of("kill"))
                .unwrap_err()
                .contains("there are drain, disable, enable, weight, add and remove")
        );
        for (word, field, with) in [
            ("drain", ("weight", "3"), "order=weight and order=add"),
            ("remove", ("deadline_ms", "3"), "order=drain"),
            ("weight", ("name", "h4"), "order=add"),
        ] {
            let fields = if word == "weight" { vec![("weight", "1"), field] } else { vec![field] };
            let told = more(word, &fields).unwrap_err();
            assert_eq!(told, format!("the field {:?} goes with {with}", field.0));
        }
        let late = more("drain", &[("deadline_ms", "2592000001")]).unwrap_err();
        assert!(late.contains("is no number from 0 to 2592000000"), "{late}");
        assert!(read(&[("order", "drain")]).unwrap_err().contains("\"backend\" is missing"));
    }

    #[test]
    fn fields_are_read_and_refused_by_name() {
        let to = "10.0.0.2".parse().unwrap();
        let from = "1:3".parse().unwrap();
        assert_eq!(
            ask("/v1/route", &[("from", "1:3"), ("to", "10.0.0.2")]),
            Ok(Question::Route { from, to, k: 1 })
        );
        let refused = |path, fields: &[(&str, &str)]| ask(path, fields).unwrap_err();
        assert_eq!(refused("/v1/status", &[("a", "b")]), "/v1/status has no field \"a\"; it takes no field");
        assert!(refused("/v1/route", &[("from", "1:3")]).contains("\"to\" is missing"));
        assert!(refused("/v1/route", &[("form", "1:3")]).contains("it takes from, to, k"));
        let many = [("from", "1:3"), ("to", "1:4"), ("k", "1000")];
        assert_eq!(refused("/v1/route", &many), "k=\"1000\" is no number from 1 to 64");
        let vlan = [("from", "1:3"), ("to", "1:4"), ("vlan", "x")];
        assert!(refused("/v1/explain", &vlan).contains("vlan=\"x\" is no number from 0 to 4095"));
        assert!(refused("/v1/route", &[("from", "nobody"), ("to", "1:4")]).contains("\"nobody\" is no host"));
    }
}
