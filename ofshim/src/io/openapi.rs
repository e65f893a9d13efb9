//! The OpenAPI document of the HTTP interface (OpenAPI 3.1, whose schemas are JSON Schema 2020-12), made from the table
//! that the socket is served from and from the types that the answers are.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::endpoints::{Answer, DAEMON_ORDERS, DaemonOrder, ENDPOINTS, Endpoint, Field};

/// The document.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in &ENDPOINTS {
        let content = match endpoint.answer {
            Answer::Json(schema) => json!({ "application/json": { "schema": schema(&mut schemas) } }),
            Answer::Document => json!({ "application/json": { "schema": { "type": "object" } } }),
            Answer::Text(kind) => json!({ kind: { "schema": { "type": "string" } } }),
        };
        paths.insert(endpoint.path.to_owned(), json!({ method(endpoint): operation(endpoint, &content) }));
    }
    for order in &DAEMON_ORDERS {
        let answer = (order.answer)(&mut schemas);
        paths.insert(order.path.to_owned(), json!({ "post": order_operation(order, &answer) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ofshim",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the OpenFlow controller ofshim tells over its unix socket (RUN_DIR/ofshim.sock), \
                            and what can be ordered there. What is a GET changes nothing.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "http://localhost", "description": "over the unix socket; the host does not matter" }],
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true) },
    })
}

const fn method(endpoint: &Endpoint) -> &'static str {
    if endpoint.changes { "post" } else { "get" }
}

fn order_operation(order: &DaemonOrder, answer: &schemars::Schema) -> Value {
    let told = |description: &str| json!({ "description": description, "content": { "text/plain": { "schema": { "type": "string" } } } });
    let mut operation = json!({
        "operationId": order.operation,
        "summary": order.summary,
        "responses": {
            "200": { "description": order.summary, "content": { "application/json": { "schema": answer } } },
            "400": told("The order is refused; one line says why, and nothing has changed"),
            "503": told("The controller is stopping"),
        },
    });
    if let Some(body) = order.body {
        let content = json!({ "application/json": { "schema": { "type": "object", "description": body } } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

fn operation(endpoint: &Endpoint, content: &Value) -> Value {
    let told = |description: &str| json!({ "description": description, "content": { "text/plain": { "schema": { "type": "string" } } } });
    json!({
        "operationId": endpoint.operation,
        "summary": endpoint.summary,
        "parameters": endpoint.fields.iter().map(parameter).collect::<Vec<_>>(),
        "responses": {
            "200": { "description": endpoint.summary, "content": content },
            "400": told("The question is refused; one line says why"),
            "503": told("The controller is stopping"),
        },
    })
}

fn parameter(field: &Field) -> Value {
    let schema = match field.kind {
        "integer" => json!({ "type": "integer", "minimum": field.range.0, "maximum": field.range.1 }),
        kind => json!({ "type": kind }),
    };
    json!({
        "name": field.name,
        "in": "query",
        "required": field.required,
        "description": field.summary,
        "schema": schema,
    })
}
