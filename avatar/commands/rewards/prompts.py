"""The prompts of saved completions: from the rows themselves, or from the data they were written for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avatar.data.dataset import PromptDataset
from avatar.data.index import ShardIndex
from avatar.data.prompts import PromptStyle, to_prompt
from avatar.errors import ConfigError, DataError
from avatar.rewards import Accuracy, Format, Reward, SelfConsistency
from avatar.rewards.judge import Judge
from avatar.types import Prompt

READ_TEXT = (Accuracy, Format, SelfConsistency)  # rewards that never look at a clip


class Prompts:
    """Gives the prompt of a row.

    Args:
        folder: Shard folder of the records; None takes what the row says, without clips.
        leaves: Rewards that will look at the prompts: clips are decoded if one of them may look at clips.

    Raises:
        ConfigError: A judge is to be asked and there is no data to take its frames from.
        DataError: The folder cannot be read.
    """

    def __init__(self, folder: str | None, leaves: Sequence[Reward]) -> None:
        judge = next((leaf for leaf in leaves if isinstance(leaf, Judge)), None)
        if judge and folder is None:
            raise ConfigError(
                f"reward {judge.name!r} looks at the clips: give --data FOLDER, the shards that hold them"
            )
        self.folder = folder
        self._decoded = self._records = None
        if folder is not None and not all(isinstance(leaf, READ_TEXT) for leaf in leaves):
            self._decoded = PromptDataset([folder])
        elif folder is not None:
            self._records = ShardIndex(folder)

    def __call__(self, row: dict[str, Any]) -> Prompt:
        """The prompt that a row answers, with its hint where the row says that it was shown.

        Raises:
            DataError: The data has no such record, cannot be read, or has another gold answer.
        """
        prompt = self._prompt(row)
        if prompt.answer != row["gold"]:
            raise DataError(
                f"prompt {prompt.key!r} has the gold answer {prompt.answer!r} in {self.folder}, and {row['gold']!r} "
                "here: is this the data that it was written for?"
            )
        return prompt.with_hint() if row.get("hinted") and prompt.hint else prompt

    def close(self) -> None:
        """End the processes that decode."""
        if self._decoded:
            self._decoded.decoders.close()

    def _prompt(self, row: dict[str, Any]) -> Prompt:
        key = row["prompt"]
        if self._decoded:
            return self._decoded.by_key(key)
        if self._records:
            if key not in self._records:
                raise DataError(f"there is no record {key!r} in {self.folder}")
            return to_prompt(self._records.by_key(key).read_record(), key, (), PromptStyle())
        question = str(row.get("question", ""))
        options = tuple(row.get("options", []))
        return Prompt(key, [{"role": "user", "content": question}], (), row["gold"], row["problem_type"], options)
