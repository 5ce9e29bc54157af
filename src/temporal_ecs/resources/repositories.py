"""ECR repositories of the images that tecs builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporal_ecs.resource import Live, Resource
from temporal_ecs.services import IMAGE_REPOSITORIES

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class Repository(Resource):
    repository: str
    scan_on_push: bool
    tag_mutability: str

    group = "images"
    tagging = "ecr"
    absent = frozenset({"RepositoryNotFoundException"})
    exists = frozenset({"RepositoryAlreadyExistsException"})
    mutable = frozenset({"scan_on_push", "tag_mutability"})
    holds_data = "container images"
    costs = "stored images by the GiB"

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        for row in aws.rows(self, "ecr", "describe_repositories", "repositories"):
            if row["repositoryName"] == self.repository:
                return {
                    "id": self.repository,
                    "repository": self.repository,
                    "scan_on_push": row["imageScanningConfiguration"]["scanOnPush"],
                    "tag_mutability": row["imageTagMutability"],
                    "arn": row["repositoryArn"],
                    "uri": row["repositoryUri"],
                }
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        aws.ecr.create_repository(
            repositoryName=self.repository,
            imageScanningConfiguration={"scanOnPush": self.scan_on_push},
            imageTagMutability=self.tag_mutability,
            tags=aws.tag_list(self),
        )
        return self.repository

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:
        name = live["id"]
        if "scan_on_push" in changed:
            scanning = {"scanOnPush": self.scan_on_push}
            aws.ecr.put_image_scanning_configuration(repositoryName=name, imageScanningConfiguration=scanning)
        if "tag_mutability" in changed:
            aws.ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability=self.tag_mutability)

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ecr.delete_repository(repositoryName=live["id"], force=True)


def declare(config: Config) -> Iterator[Resource]:
    if config.images.create_repositories:
        for name in IMAGE_REPOSITORIES:
            yield Repository(
                name=f"{name}-repository",
                repository=name,
                scan_on_push=True,
                tag_mutability="IMMUTABLE",
            )
