//! GetObjectAttributes.

use http::HeaderMap;
use s3s::S3Response;
use s3s::dto::{
    Checksum, ChecksumType, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts,
    ObjectPart, StorageClass,
};

use crate::checksum::{Kind, encode, show_checksum};
use crate::ops::list::page_size;
use crate::ops::{etag, timestamp};
use crate::service::Cx;
use crate::tables::Data;
use crate::{Error, encryption, read, versions};

pub(crate) async fn get(
    cx: &Cx,
    input: GetObjectAttributesInput,
) -> Result<S3Response<GetObjectAttributesOutput>, Error> {
    let home = cx.home().await?;
    let account = home.owner;
    let address = cx.address(&home, input.version_id.as_deref())?;
    let object = read::find(&cx.inner, address, false).await?.object;
    cx.check_customer(object.encryption.as_ref())?;
    let mut output = GetObjectAttributesOutput {
        last_modified: Some(timestamp(object.modified)),
        version_id: home.versioned.then(|| versions::name(object.version)),
        ..GetObjectAttributesOutput::default()
    };
    let names = input.object_attributes.iter().flat_map(|name| name.as_str().split(',')).map(str::trim);
    for name in names {
        match name {
            "ETag" => output.e_tag = Some(etag(&object.etag)),
            "ObjectSize" => output.object_size = i64::try_from(object.size).ok(),
            "StorageClass" => output.storage_class = Some(StorageClass::from_static(StorageClass::STANDARD)),
            "Checksum" => {
                let mut checksum = Checksum::default();
                // Without the number of parts that other operations show with it.
                let value = object.checksum.value.split('-').next().unwrap_or_default().to_owned();
                show_checksum!(checksum, object.checksum.algorithm, value);
                checksum.checksum_type = Some(ChecksumType::from_static(object.checksum.kind.name()));
                output.checksum = Some(checksum);
            }
            "ObjectParts" => {
                let Data::Parts(id) = object.data else { continue };
                let parts = read::parts(&cx.inner, account, id).await?.0;
                let limit = page_size("max-parts", input.max_parts)?;
                let marker = input.part_number_marker.unwrap_or(0);
                let behind = parts.iter().filter(|p| i64::from(p.number) > i64::from(marker));
                let page: Vec<_> = behind.clone().take(limit).collect();
                let more = behind.count() > page.len();
                let composite = object.checksum.kind == Kind::Composite;
                // S3 lists the parts only of objects with a checksum for each.
                let shapes = composite.then(|| {
                    page.iter()
                        .map(|part| {
                            let mut shape = ObjectPart {
                                part_number: i32::try_from(part.number).ok(),
                                size: i64::try_from(part.size).ok(),
                                ..ObjectPart::default()
                            };
                            show_checksum!(shape, object.checksum.algorithm, encode(&part.checksum));
                            shape
                        })
                        .collect()
                });
                output.object_parts = Some(GetObjectAttributesParts {
                    is_truncated: Some(composite && more),
                    max_parts: i32::try_from(limit).ok(),
                    next_part_number_marker: page.last().and_then(|part| i32::try_from(part.number).ok()),
                    part_number_marker: Some(marker),
                    parts: shapes,
                    total_parts_count: i32::try_from(parts.len()).ok(),
                });
            }
            other => {
                return Err(Error::argument(
                    "x-amz-object-attributes",
                    other,
                    "Invalid attribute name specified.",
                ));
            }
        }
    }
    let mut headers = HeaderMap::new();
    encryption::show(object.encryption.as_ref(), &cx.state.headers, &mut headers);
    Ok(S3Response::with_headers(output, headers))
}
