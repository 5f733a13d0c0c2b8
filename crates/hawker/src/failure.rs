//! Errors as a person reads them: what, why, and what to do next.

use std::fmt;

/// An error with advice.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    next: Option<String>,
    detail: Option<serde_json::Value>,
}

impl Failure {
    /// What failed.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, next: None, detail: None }
    }

    /// Why.
    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// What a machine wants to know beyond that.
    pub(crate) fn detail(mut self, detail: serde_json::Value) -> Self {
        self.detail = Some(detail);
        self
    }

    /// What to do.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// An end with a message that was shown already.
#[derive(Debug)]
pub(crate) struct Shown;

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Shown {}

/// Prints an error to stderr, as text or as one JSON object.
pub(crate) fn print(error: &anyhow::Error, json: bool) {
    if error.is::<Shown>() {
        return;
    }
    let failure = error.downcast_ref::<Failure>();
    let mut causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    causes.extend(failure.and_then(|f| f.why.clone()));
    let next = failure.and_then(|f| f.next.clone());
    if json {
        let detail = failure.and_then(|f| f.detail.clone());
        let value =
            serde_json::json!({"error": error.to_string(), "causes": causes, "next": next, "detail": detail});
        eprintln!("{value}");
        return;
    }
    use crate::ui::{Colour, paint_err as paint};
    eprintln!("{} {error}", paint(Colour::Red, "error:"));
    for cause in causes {
        eprintln!("  {} {cause}", paint(Colour::Dim, "why: "));
    }
    if let Some(next) = next {
        eprintln!("  {} {next}", paint(Colour::Cyan, "next:"));
    }
}
