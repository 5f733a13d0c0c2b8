//! Changes what is said of an object (its tags and the like) without touching its bytes.

use store::Read;

use crate::Error;
use crate::read::{self, Address};
use crate::service::Inner;
use crate::tables::{self, OBJECTS, Object, VERSIONS, VersionRow};

/// Changes the row of an object's version in one commit, and gives it as it was written.
pub(crate) async fn change(
    inner: &Inner,
    address: Address<'_>,
    edit: impl Fn(&mut Object) -> Result<(), Error> + Clone + Send + 'static,
) -> Result<Object, Error> {
    loop {
        let found = read::find(inner, address, false).await?;
        let key = match &found.other {
            None => tables::object_key(address.owner, address.bucket, address.key),
            Some(row) => row.key.clone(),
        };
        let (row_key, edit, is_other, which) =
            (key.clone(), edit.clone(), found.other.is_some(), address.which);
        let done = inner
            .store
            .transact(vec![Read::Key(key)], move |pages, _| {
                // `None`: it is not there any more; it is looked for anew.
                let nothing = Ok((Vec::new(), None));
                if is_other {
                    let Some(row) = VERSIONS.first(&pages[0])? else { return nothing };
                    let VersionRow::Object { mut object, since } = row.value else { return nothing };
                    edit(&mut object)?;
                    let changed = (*object).clone();
                    let row = VersionRow::Object { object, since };
                    Ok::<_, Error>((vec![VERSIONS.put(row_key.clone(), &row)], Some(changed)))
                } else {
                    let Some(row) = OBJECTS.first(&pages[0])? else { return nothing };
                    if !which.is(row.value.version) {
                        return nothing;
                    }
                    let mut object = row.value;
                    edit(&mut object)?;
                    Ok((vec![OBJECTS.put(row_key.clone(), &object)], Some(object)))
                }
            })
            .await?;
        if let Some(object) = done {
            return Ok(object);
        }
    }
}
