from avatar.data.micro import language
from avatar.models.tiny import build_tokenizer, write_tiny_model


def test_the_same_seed_writes_the_same_weights_and_another_does_not(tmp_path):
    sentences = list(language())
    files = [
        write_tiny_model(tmp_path / str(i), sentences, seed) / "model.safetensors" for i, seed in enumerate((0, 0, 1))
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


def test_any_text_survives_the_tokenizer():
    tokenizer = build_tokenizer(language())
    for text in ("<think>sound 3</think><answer>3</answer>", "Ünïcödé ✓ \n\t <|nothing|>", ""):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_models_own_words_are_short():
    tokenizer = build_tokenizer(language())
    ids = tokenizer("<think>sound 3 ; flash 2 ; sum 5</think><answer>5</answer>").input_ids
    assert len(ids) <= 24
