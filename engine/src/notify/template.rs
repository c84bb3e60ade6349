//! Templates of users: what a receiver gets in the place of our own JSON.
//!
//! The text is Jinja. It is given what our JSON holds (see `message`), and is bounded in steps and
//! in output, since it is run for whatever customers call themselves. As `application/json` every
//! value is printed as JSON, so that no name can end a string: `{"text": {{ summary }}}`.

use std::io::{self, Write};

use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;

/// Steps that one message may take: far more than a long table of alerts needs.
const FUEL: u64 = 200_000;

/// The longest message.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// What is sent where nothing else is said.
pub const JSON: &str = "application/json";

/// Why a template cannot be used, or a message of it not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

/// A template that has been read.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    is_json: bool,
}

impl Template {
    /// Reads a template whose output is of `content_type`.
    ///
    /// ```
    /// use ninefold_engine::notify::template::{JSON, Template};
    /// let template = Template::new("{\"text\": {{ summary }}}", JSON).unwrap();
    /// let text = template.render(&serde_json::json!({ "summary": "a \"b\"" })).unwrap();
    /// assert_eq!(text, r#"{"text": "a \"b\""}"#);
    /// ```
    ///
    /// # Errors
    /// It is no Jinja.
    pub fn new(text: &str, content_type: &str) -> Result<Template, TemplateError> {
        let mut environment = Environment::new();
        let is_json = content_type == JSON;
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(move |_| match is_json {
            true => AutoEscape::Json,
            false => AutoEscape::None,
        });
        environment.add_template_owned("template", text.to_owned()).map_err(refused)?;
        Ok(Template { environment, is_json })
    }

    /// The message that says what `context` holds.
    ///
    /// # Errors
    /// It names something that is not there, takes too many steps, is too long, or is not JSON
    /// where it has to be.
    pub fn render(&self, context: &Value) -> Result<String, TemplateError> {
        let template = self.environment.get_template("template").map_err(refused)?;
        let mut output = Bounded(Vec::new());
        template
            .render_captured_to(minijinja::value::Serde(context), &mut output)
            .map_err(refused)?;
        let text = String::from_utf8(output.0).expect("templates print text");
        if self.is_json {
            serde_json::from_str::<serde::de::IgnoredAny>(&text)
                .map_err(|error| TemplateError(format!("it prints no JSON: {error}")))?;
        }
        Ok(text)
    }
}

/// An error with its causes, each once.
fn refused(error: minijinja::Error) -> TemplateError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    TemplateError(text)
}

/// Takes so much and no more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other(format!("more than {OUTPUT_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str) -> Result<String, TemplateError> {
        Template::new(text, "text/plain")?.render(&json!({ "name": "<b>\"" }))
    }

    #[test]
    fn what_cannot_end_or_grows_without_bound_is_stopped() {
        assert_eq!(render("{{ name }}!").unwrap(), "<b>\"!");
        assert!(
            render(
                "{% for n in range(100000) %}{% for m in range(100000) %}.{% endfor %}{% endfor %}"
            )
            .is_err()
        );
        let doubled = "{% set a = name ~ name %}".replace("name", "a");
        let text = format!("{{% set a = name %}}{}{{{{ a }}}}", doubled.repeat(19));
        assert!(render(&text).unwrap_err().to_string().contains("bytes"));
        assert!(render("{{ nmae }}").is_err(), "a name that is not there");
        assert!(render("{% if %}").is_err());
    }

    #[test]
    fn as_json_no_name_ends_a_string_and_the_whole_is_json() {
        let template = |text| Template::new(text, JSON).unwrap();
        let context = json!({ "name": "\"},{\"x\":\"" });
        assert_eq!(
            template("{\"text\": {{ name }}}").render(&context).unwrap(),
            r#"{"text": "\"},{\"x\":\""}"#
        );
        let error = template("{\"text\": {{ name }}").render(&context).unwrap_err();
        assert!(error.to_string().contains("no JSON"), "{error}");
    }
}
