//! `GET /docs`: the operations of `/openapi.json` as one page, offline and without a script.

use askama::Template;
use axum::http::Uri;
use axum::response::Html;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::assets::OPENAPI;
use crate::problem::{Kind, Problem};

/// The page.
#[derive(Template)]
#[template(path = "docs.html")]
struct Docs {
    version: String,
    operations: Vec<Operation>,
    problems: Vec<ProblemKind>,
}

/// One path with the method that it takes; with GET it takes HEAD.
struct Operation {
    method: &'static str,
    anchor: String,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<Parameter>,
    media_types: String,
    example: String,
}

/// One argument of a path or a query.
struct Parameter {
    name: String,
    place: String,
    is_required: bool,
    description: String,
}

/// One kind of problem detail.
struct ProblemKind {
    anchor: &'static str,
    status: u16,
    title: &'static str,
}

/// The route.
pub(crate) async fn docs(uri: Uri) -> Result<Html<String>, Problem> {
    Arguments::read(&uri, &[])?;
    let api: Value = serde_json::from_str(OPENAPI).map_err(|_| Problem::internal())?;
    let paths = api["paths"].as_object().into_iter().flatten();
    let mut operations: Vec<Operation> = paths.flat_map(operations_of).collect();
    operations.sort_by_key(|operation| !operation.path.starts_with("/v1/"));
    let problems = Kind::ALL
        .iter()
        .map(|kind| {
            let (status, anchor, title) = kind.facts();
            ProblemKind { anchor, status: status.as_u16(), title }
        })
        .collect();
    let page = Docs { version: text(&api["info"]["version"]), operations, problems };
    Ok(Html(page.render().map_err(|_| Problem::internal())?))
}

/// The operations of a path, by method.
fn operations_of((path, item): (&String, &Value)) -> Vec<Operation> {
    let methods = [("get", "GET"), ("post", "POST"), ("delete", "DELETE")];
    let there = methods.into_iter().filter(|(key, _)| !item[key].is_null());
    there.map(|(key, method)| operation(path, method, &item[key])).collect()
}

fn operation(path: &str, method: &'static str, operation: &Value) -> Operation {
    let media_types: Vec<&str> = operation["responses"]["200"]["content"]
        .as_object()
        .into_iter()
        .flat_map(|content| content.keys().map(String::as_str))
        .collect();
    Operation {
        method,
        anchor: text(&operation["operationId"]),
        path: path.to_owned(),
        summary: text(&operation["summary"]),
        description: text(&operation["description"]),
        parameters: operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(parameter)
            .collect(),
        media_types: media_types.join(", "),
        example: text(&operation["x-example"]),
    }
}

fn parameter(parameter: &Value) -> Parameter {
    Parameter {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        is_required: parameter["required"].as_bool().unwrap_or(false),
        description: text(&parameter["description"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
