//! What the operator sets.

use serde::{Deserialize, Serialize};

/// Settings of telemetry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many records may wait before recorders do.
    pub buffer: usize,
    /// How long a batch gathers before it is written, in milliseconds.
    pub gather_ms: u64,
    /// How long traces and single invocations are kept, in days; usage and logs are not concerned.
    pub retention_days: u32,
    /// What usage is shown to cost.
    pub price: Price,
}

impl Default for Config {
    fn default() -> Self {
        Self { buffer: 8192, gather_ms: 10, retention_days: 30, price: Price::default() }
    }
}

/// Prices as whole numbers, so that sums are exact. The default is AWS Lambda's list price for x86 in
/// us-east-1: 0.0000166667 USD per GB-second and 0.20 USD per million requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// USD per GB-second, times 10^10.
    pub gb_second_e10: u64,
    /// USD per million requests, times 10^4.
    pub million_requests_e4: u64,
}

impl Default for Price {
    fn default() -> Self {
        Self { gb_second_e10: 166_667, million_requests_e4: 2_000 }
    }
}

impl Price {
    /// The cost in USD times 10^10, rounded half up; a GB is 1,024 MB.
    pub fn cost_e10(&self, mb_ms: u128, requests: u64) -> u128 {
        let compute = (mb_ms * u128::from(self.gb_second_e10) + 512_000) / 1_024_000;
        compute + u128::from(requests) * u128::from(self.million_requests_e4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_requests_of_a_gb_second_cost_the_list_price() {
        let price = Price::default();
        // 16.6667 USD of compute and 0.20 USD of requests.
        assert_eq!(price.cost_e10(1024 * 1000 * 1_000_000, 1_000_000), 168_667_000_000);
        assert_eq!(price.cost_e10(0, 1), 2_000);
        assert_eq!(price.cost_e10(128, 0), 21);
    }
}
