"""The photo album by AWS's SAM CLI: packaged into a bucket, deployed by a change set, watched by its events, changed, asked,
and deleted with what it had uploaded."""

import json
import pathlib
import shutil
import subprocess

import PIL
import pytest
from conftest import ACCOUNT, PYTHON_RUNTIME, ROOT, eventually, programs, run

pytestmark = pytest.mark.local
STACK = "album-by-sam"


@pytest.fixture(scope="module")
def sam(node, tmp_path_factory):
    """Runs `sam` in a copy of the example that has its library beside it, as `sam build` would have put it."""
    program = programs("sam", pathlib.Path(__file__).parent / "requirements-sam.txt") / "sam"
    source = tmp_path_factory.mktemp("app") / "photo-album"
    shutil.copytree(ROOT / "examples/photo-album", source, ignore=shutil.ignore_patterns(".hawker"))
    template = source / "template.yaml"
    template.write_text(template.read_text().replace("python3.12", PYTHON_RUNTIME))
    library = pathlib.Path(PIL.__file__).parent
    for part in (library, library.parent / "pillow.libs"):
        shutil.copytree(part, source / "thumbnail" / part.name, ignore=shutil.ignore_patterns("__pycache__"))
    env = {**node.env(), "SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "0.2", "HOME": str(source.parent)}

    def call(*args, check=True):
        if check:
            return run(program, *args, env=env, cwd=source)
        return subprocess.run([program, *args], env=env, cwd=source, capture_output=True, text=True, timeout=300)

    return call


def test_album_from_deploy_to_delete(node, sam):
    cloudformation, s3 = node.client("cloudformation"), node.client("s3")
    deploy = ["deploy", "--stack-name", STACK, "--resolve-s3", "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar"]
    assert "is a valid SAM Template" in sam("validate")

    said = sam(*deploy, "--tags", "made-by=sam")
    assert f"Successfully created/updated stack - {STACK}" in said
    for line in ("+ Add", "CREATE_IN_PROGRESS", "CREATE_COMPLETE", f"{STACK}-uploads-{ACCOUNT}"):
        assert line in said, said
    stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE" and {"Key": "made-by", "Value": "sam"} in stack["Tags"]

    outputs = {o["OutputKey"]: o["OutputValue"] for o in json.loads(sam("list", "stack-outputs", "--stack-name", STACK, "--output", "json"))}
    ids = {r["LogicalResourceId"] for r in json.loads(sam("list", "resources", "--stack-name", STACK, "--output", "json"))}
    assert {"Uploads", "Photos", "Thumbnail", "ThumbnailRole", "ThumbnailPhotoUploadedPermission"} <= ids
    uploads, thumbnails = outputs["UploadBucket"], outputs["ThumbnailBucket"]
    s3.put_object(Bucket=uploads, Key="harbour.jpg", Body=(ROOT / "examples/photo-album/photos/harbour.jpg").read_bytes())
    eventually(lambda: s3.list_objects_v2(Bucket=thumbnails)["KeyCount"])
    assert sam("remote", "invoke", "Thumbnail", "--stack-name", STACK, "--event", '{"Records": []}').strip() == "null"
    eventually(lambda: "REPORT RequestId" in sam("logs", "--stack-name", STACK, "--name", "Thumbnail"))

    again = sam(*deploy, "--tags", "made-by=sam", check=False)
    assert again.returncode == 1 and f"No changes to deploy. Stack {STACK} is up to date" in again.stderr + again.stdout
    said = sam(*deploy, "--tags", "made-by=sam", "--parameter-overrides", "ThumbnailSize=100")
    assert "* Modify" in said and "UPDATE_COMPLETE" in said and "+ Add" not in said
    functions = node.client("lambda").get_function_configuration(FunctionName=outputs["ThumbnailFunction"])
    assert functions["Environment"]["Variables"]["THUMBNAIL_SIZE"] == "100"

    for bucket in (uploads, thumbnails):
        for item in s3.list_objects_v2(Bucket=bucket)["Contents"]:
            s3.delete_object(Bucket=bucket, Key=item["Key"])
    said = sam("delete", "--stack-name", STACK, "--no-prompts")
    assert "Deleted successfully" in said
    with pytest.raises(cloudformation.exceptions.ClientError, match=f"Stack with id {STACK} does not exist"):
        cloudformation.describe_stacks(StackName=STACK)
    # The bucket that SAM made for itself stays, and what this stack had in it is gone.
    own = [b["Name"] for b in s3.list_buckets()["Buckets"]]
    assert len(own) == 1 and own[0].startswith("aws-sam-cli-managed-default-samclisourcebucket-")
    assert "Contents" not in s3.list_objects_v2(Bucket=own[0])


def test_package_into_a_bucket_of_ones_own(node, sam):
    s3 = node.client("s3")
    s3.create_bucket(Bucket="packages-of-sam")
    packaged = sam("package", "--s3-bucket", "packages-of-sam", "--s3-prefix", "album", "--use-json")
    place = json.loads(packaged[packaged.index("{"):])["Resources"]["Thumbnail"]["Properties"]["CodeUri"]
    assert place.startswith("s3://packages-of-sam/album/")
    assert s3.head_object(Bucket="packages-of-sam", Key=place.split("/", 3)[3])["ContentLength"] > 0
