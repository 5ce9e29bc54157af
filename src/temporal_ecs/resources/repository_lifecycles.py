"""What ECR may throw away: untagged images beyond the last few. What a task names by digest carries a tag."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import Live, Ref, Resource
from temporal_ecs.services import IMAGE_REPOSITORIES

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config


@dataclass(frozen=True, kw_only=True)
class RepositoryLifecycle(Resource):
    repository: str | Ref
    rules: tuple[dict[str, Any], ...]

    group = "images"
    tagging = None
    absent = frozenset({"LifecyclePolicyNotFoundException", "RepositoryNotFoundException"})
    mutable = frozenset({"rules"})

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        answer = aws.answer(self, "ecr", "get_lifecycle_policy", repositoryName=self.repository)
        rules = json.loads(answer["lifecyclePolicyText"])["rules"]
        return {"id": self.repository, "repository": self.repository, "rules": rules}

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        self._put(aws)
        return str(self.repository)

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        self._put(aws)

    def delete(self, aws: Aws, live: Live) -> None:
        aws.ecr.delete_lifecycle_policy(repositoryName=live["id"])

    def _put(self, aws: Aws) -> None:
        text = json.dumps({"rules": self.rules})
        aws.ecr.put_lifecycle_policy(repositoryName=self.repository, lifecyclePolicyText=text)


UNTAGGED = {
    "rulePriority": 1,
    "description": "keep the last 10 untagged images",
    "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 10},
    "action": {"type": "expire"},
}


def declare(config: Config) -> Iterator[Resource]:
    if config.images.create_repositories:
        for name in IMAGE_REPOSITORIES:
            yield RepositoryLifecycle(name=f"{name}-lifecycle", repository=Ref(f"{name}-repository"), rules=(UNTAGGED,))
