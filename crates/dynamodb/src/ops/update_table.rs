//! UpdateTable.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::json;

use super::create_table::{BILLING_MODES, Throughput, check_class};
use super::describe_table::{description, measure};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{Billing, TABLES, table_key};
use crate::wire::{self, Constraints};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    billing_mode: Option<String>,
    provisioned_throughput: Option<Throughput>,
    deletion_protection_enabled: Option<bool>,
    table_class: Option<String>,
}

/// Changes how a table is paid for and protected.
pub(crate) struct UpdateTable {
    name: String,
    on_demand: bool,
    provisioned: Option<Billing>,
    deletion_protection: Option<bool>,
    class_given: bool,
}

#[async_trait]
impl Run for UpdateTable {
    const NAME: &'static str = "UpdateTable";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .table(input.table_name.as_deref(), "tableName")
            .one_of(input.billing_mode.as_deref(), "billingMode", &BILLING_MODES)
            .one_of(input.table_class.as_deref(), "tableClass", &["STANDARD", "STANDARD_INFREQUENT_ACCESS"]);
        if let Some(throughput) = input.provisioned_throughput {
            throughput.constraints(&mut constraints);
        }
        constraints.finish()?;
        let nothing = input.billing_mode.is_none()
            && input.provisioned_throughput.is_none()
            && input.deletion_protection_enabled.is_none()
            && input.table_class.is_none();
        if nothing {
            return Err(Error::validation(
                "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required",
            ));
        }
        check_class(input.table_class.as_deref())?;
        let on_demand = input.billing_mode.as_deref() == Some("PAY_PER_REQUEST");
        if on_demand && input.provisioned_throughput.is_some() {
            return Err(Error::invalid_parameter(
                "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
            ));
        }
        if input.billing_mode.as_deref() == Some("PROVISIONED") && input.provisioned_throughput.is_none() {
            return Err(Error::invalid_parameter(
                "ProvisionedThroughput must be specified when BillingMode is PROVISIONED",
            ));
        }
        Ok(Self {
            name: scope.table_name(&input.table_name.unwrap_or_default())?,
            on_demand,
            provisioned: input.provisioned_throughput.map(Throughput::billing).transpose()?,
            deletion_protection: input.deletion_protection_enabled,
            class_given: input.table_class.is_some(),
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:UpdateTable", scope.table_arn(&self.name))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let key = table_key(scope.account, &self.name);
        let now = node.env.now();
        let reads = vec![TABLES.read(key.clone())];
        let record = node
            .store
            .transact(reads, move |pages, _| {
                let row = TABLES.first(&pages[0])?;
                let mut record = row.ok_or_else(|| Error::table_not_found_named(&self.name))?.value;
                match (record.billing, self.provisioned) {
                    (Billing::Provisioned { .. }, None) if self.on_demand => {
                        record.billing = Billing::PayPerRequest { since: now };
                    }
                    (_, Some(provisioned)) => record.billing = provisioned,
                    _ => {}
                }
                if let Some(protected) = self.deletion_protection {
                    record.deletion_protection = protected;
                }
                record.class_given |= self.class_given;
                Ok::<_, Error>((vec![TABLES.put(key.clone(), &record)], record))
            })
            .await?;
        let size = measure(node, scope, &record).await?;
        Ok(document(&json!({ "TableDescription": description(&record, scope, size, "ACTIVE") })))
    }
}
