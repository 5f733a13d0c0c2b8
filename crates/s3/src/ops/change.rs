//! Changes what is said of an object (its tags and the like) without touching its bytes.

use std::sync::Arc;

use store::{Read, Version};

use crate::Error;
use crate::notify::Change;
use crate::ops::install::bucket_of;
use crate::read::{self, Address};
use crate::service::Cx;
use crate::tables::{self, OBJECTS, Object, VERSIONS, VersionRow};

/// Changes the row of an object's version in one commit, with the event of that name, and gives it as it was written.
pub(crate) async fn change(
    cx: &Cx,
    address: Address<'_>,
    event: Option<&'static str>,
    edit: impl Fn(&mut Object) -> Result<(), Error> + Send + Sync + 'static,
) -> Result<Object, Error> {
    let edit = Arc::new(edit);
    let Address { owner, bucket, key, which, versioned } = address;
    let names = Arc::new((bucket.to_owned(), key.to_owned()));
    loop {
        let found = read::find(&cx.inner, address, false).await.map_err(|error| match error {
            Error::IsMarker { version, modified, .. } => {
                let removes = cx.state.route.name.starts_with("Delete");
                Error::IsMarker { version, modified, method: if removes { "DELETE" } else { "PUT" } }
            }
            other => other,
        })?;
        let row_key = match &found.other {
            None => tables::object_key(owner, bucket, key),
            Some(row) => row.key.clone(),
        };
        let (edit, is_other, names, cause) = (edit.clone(), found.other.is_some(), names.clone(), cx.cause());
        let reads = vec![Read::Key(row_key.clone()), Read::Key(tables::bucket_key(owner, bucket))];
        let done = cx
            .inner
            .store
            .transact(reads, move |pages, version: Version| {
                // `None`: it is not there any more; it is looked for anew.
                let nothing = Ok((Vec::new(), None));
                let (write, object) = if is_other {
                    let Some(row) = VERSIONS.first(&pages[0])? else { return nothing };
                    let VersionRow::Object { mut object, since } = row.value else { return nothing };
                    edit(&mut object)?;
                    let changed = (*object).clone();
                    let row = VersionRow::Object { object, since };
                    (VERSIONS.put(row_key.clone(), &row), changed)
                } else {
                    let Some(row) = OBJECTS.first(&pages[0])? else { return nothing };
                    if !which.is(row.value.version) {
                        return nothing;
                    }
                    let mut object = row.value;
                    edit(&mut object)?;
                    (OBJECTS.put(row_key.clone(), &object), object)
                };
                let mut writes = vec![write];
                if let Some(name) = event {
                    let bucket = bucket_of(&pages[1], &names.0)?;
                    let change = Change {
                        owner,
                        bucket: &names.0,
                        key: &names.1,
                        name,
                        created: None,
                        version: versioned.then_some(object.version),
                    };
                    writes.extend(change.deliveries(&bucket, &cause, version));
                }
                Ok::<_, Error>((writes, Some(object)))
            })
            .await?;
        if let Some(object) = done {
            return Ok(object);
        }
    }
}
