//! wasi:config/store: the function's own variables. The platform's, its credentials among them, are in its environment.

use super::bindings::wasi::config::store::{Error, Host};
use super::host;

impl Host for host::Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        Ok(Ok(self.function.variables.get(&key).cloned()))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        let all = self.function.variables.iter().map(|(name, value)| (name.clone(), value.clone()));
        Ok(Ok(all.collect()))
    }
}
