//! Operations whose input is one JSON document, and that find what they act on before they say what rights they need.

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use types::ErrorKind;

use crate::{Access, Error, Operation, Response};

/// Who asks, from where, with what operations share: a service's own type.
pub trait Scoped: Send + Sync + Sized + 'static {
    /// The service's error.
    type Error: Into<Error>;
}

/// An operation's input.
pub trait Input<S: Scoped>: DeserializeOwned + Send + Sync + 'static {
    /// The operation's name.
    const NAME: &'static str;

    /// What it acts on.
    type Found: Send + Sync;

    /// Finds what it acts on, and says what rights that needs.
    fn find(&self, scope: &S) -> impl Future<Output = Result<(Vec<Access>, Self::Found), S::Error>> + Send;

    /// Carries it out.
    fn run(self, scope: S, found: Self::Found) -> impl Future<Output = Result<Response, S::Error>> + Send;
}

struct Call<I: Input<S>, S: Scoped> {
    input: I,
    scope: S,
    needs: Vec<Access>,
    found: I::Found,
}

#[async_trait]
impl<I: Input<S>, S: Scoped> Operation for Call<I, S> {
    fn name(&self) -> &'static str {
        I::NAME
    }

    fn access(&self) -> Vec<Access> {
        self.needs.clone()
    }

    async fn handle(self: Box<Self>) -> Result<Response, Error> {
        self.input.run(self.scope, self.found).await.map_err(Into::into)
    }
}

/// Reads an input and finds what it acts on.
pub async fn call<I: Input<S>, S: Scoped>(body: &[u8], scope: S) -> Result<Box<dyn Operation>, Error> {
    let input: I = crate::json::input(body)?;
    let (needs, found) = input.find(&scope).await.map_err(Into::into)?;
    Ok(Box::new(Call { input, scope, needs, found }))
}

/// The error for an operation that a service does not have.
#[must_use]
pub fn unknown(service: &str, operation: &str) -> Error {
    let message = format!("The operation {operation} of {service} is not supported here.");
    Error::new(ErrorKind::Unsupported, "UnknownOperationException", message).with_status(400)
}

/// Calls the input whose name is `$name`, of those named.
#[macro_export]
macro_rules! dispatch {
    ($service:literal, $name:expr, $body:expr, $scope:ident: $kind:ty, { $($input:path,)* }) => {
        match $name {
            $(<$input as $crate::input::Input<$kind>>::NAME => $crate::input::call::<$input, $kind>($body, $scope).await,)*
            other => Err($crate::input::unknown($service, other)),
        }
    };
}
