//! What can go wrong with stacks, and how CloudFormation words it.

use types::ErrorKind;

use crate::template::Problem;

/// A failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template, or its parameters.
    #[error("{}", problems(.0))]
    Template(Vec<Problem>),
    /// Something about the request.
    #[error("{0}")]
    Validation(String),
    /// No stack has that name or id.
    #[error("Stack with id {0} does not exist")]
    StackNotFound(String),
    /// The stack is there already.
    #[error("Stack [{0}] already exists")]
    AlreadyExists(String),
    /// No change set has that name or id.
    #[error("ChangeSet [{0}] does not exist")]
    ChangeSetNotFound(String),
    /// The change set can not be executed.
    #[error("{0}")]
    InvalidChangeSetStatus(String),
    /// The change set is there already.
    #[error("ChangeSet {0} already exists")]
    ChangeSetExists(String),
    /// A capability was not acknowledged.
    #[error("Requires capabilities : [{0}]")]
    InsufficientCapabilities(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Another service answered with an error.
    #[error(transparent)]
    Service(#[from] aws::Error),
}

fn problems(problems: &[Problem]) -> String {
    match problems {
        // Problems of parameters, as CloudFormation words them.
        [one] if one.at.line == 0 => one.message.clone(),
        [one] => format!("Template error: {one}"),
        many => {
            let lines: Vec<_> = many.iter().map(|p| format!("\n{p}")).collect();
            format!("Template error: {} problems{}", many.len(), lines.concat())
        }
    }
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Template(_) | Self::Validation(_) | Self::InsufficientCapabilities(_) => ErrorKind::Invalid,
            Self::StackNotFound(_) | Self::ChangeSetNotFound(_) => ErrorKind::NotFound,
            Self::AlreadyExists(_) | Self::ChangeSetExists(_) | Self::InvalidChangeSetStatus(_) => {
                ErrorKind::Conflict
            }
            Self::Store(error) => error.kind(),
            Self::Service(error) => error.kind,
        }
    }
}

impl From<Error> for aws::Error {
    fn from(error: Error) -> Self {
        let (code, status) = match &error {
            Error::Template(_) | Error::Validation(_) | Error::StackNotFound(_) => ("ValidationError", 400),
            Error::AlreadyExists(_) | Error::ChangeSetExists(_) => ("AlreadyExistsException", 400),
            Error::ChangeSetNotFound(_) => ("ChangeSetNotFound", 404),
            Error::InvalidChangeSetStatus(_) => ("InvalidChangeSetStatus", 400),
            Error::InsufficientCapabilities(_) => ("InsufficientCapabilitiesException", 400),
            Error::Store(store) if store.kind() == ErrorKind::Unavailable => ("ServiceUnavailable", 503),
            Error::Store(store) => return Self::internal(store),
            Error::Service(_) => {
                let Error::Service(error) = error else { unreachable!("matched above") };
                return error;
            }
        };
        Self::new(error.kind(), code, error.to_string()).with_status(status)
    }
}
