//! GetBucketAcl, PutBucketAcl, GetObjectAcl, PutObjectAcl.

use s3s::S3Response;
use s3s::dto::{
    AccessControlPolicy, GetBucketAclInput, GetBucketAclOutput, GetObjectAclInput, GetObjectAclOutput,
    PutBucketAclInput, PutBucketAclOutput, PutObjectAclInput, PutObjectAclOutput,
};

use crate::access::{self, Acl, Kind, Ownership};
use crate::ops::bucket::rehome;
use crate::ops::change::change;
use crate::ops::owner;
use crate::service::Cx;
use crate::tables::NameRow;
use crate::{Error, read};

pub(crate) async fn get_bucket(
    cx: &Cx,
    _input: GetBucketAclInput,
) -> Result<S3Response<GetBucketAclOutput>, Error> {
    let home = cx.home().await?;
    let acl = if home.ownership() == Ownership::BucketOwnerEnforced { &[][..] } else { &home.acl };
    Ok(S3Response::new(GetBucketAclOutput {
        grants: Some(access::shape(acl, home.owner)),
        owner: Some(owner(home.owner)),
    }))
}

/// The list that a request to set one gives.
fn given(cx: &Cx, home: &NameRow, kind: Kind, body: Option<AccessControlPolicy>) -> Result<Acl, Error> {
    let acl = match (access::of_headers(&cx.state.headers, kind, home.owner)?, body) {
        (Some(_), Some(_)) => return Err(Error::UnexpectedContent),
        (Some(acl), None) => acl,
        (None, Some(body)) => access::of_shape(body, home.owner)?,
        (None, None) => return Err(Error::MissingAcl),
    };
    home.admits_acl(&acl)?;
    Ok(acl)
}

pub(crate) async fn put_bucket(
    cx: &Cx,
    input: PutBucketAclInput,
) -> Result<S3Response<PutBucketAclOutput>, Error> {
    let home = cx.home().await?;
    let acl = given(cx, &home, Kind::Bucket, input.access_control_policy)?;
    rehome(cx, move |home| {
        home.admits_acl(&acl)?;
        home.acl.clone_from(&acl);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

pub(crate) async fn get_object(
    cx: &Cx,
    input: GetObjectAclInput,
) -> Result<S3Response<GetObjectAclOutput>, Error> {
    let home = cx.home().await?;
    let found = read::find(&cx.inner, cx.address(&home, input.version_id.as_deref())?, false).await?;
    let enforced = home.ownership() == Ownership::BucketOwnerEnforced;
    let acl = if enforced { &[][..] } else { &found.object.acl };
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(access::shape(acl, home.owner)),
        owner: Some(owner(home.owner)),
        ..GetObjectAclOutput::default()
    }))
}

pub(crate) async fn put_object(
    cx: &Cx,
    input: PutObjectAclInput,
) -> Result<S3Response<PutObjectAclOutput>, Error> {
    let home = cx.home().await?;
    let acl = given(cx, &home, Kind::Object, input.access_control_policy)?;
    let address = cx.address(&home, input.version_id.as_deref())?;
    change(cx, address, Some("ObjectAcl:Put"), move |object| {
        object.acl.clone_from(&acl);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}
