"""AttentionDAM against the definition written as loops over positions, heads, memories and copies."""

import math
from collections import deque
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from memlight.errors import UserError
from memlight.models.dam import MAX_LOGIT, AttentionDAM

LN2 = math.log(2)
FAR = 60.0  # exp(-60) is nothing beside 1 in float64
EXACT = {"atol": 1e-9, "rtol": 0}


def signs(*rows: str) -> Tensor:
    """``(B, N)`` of -1.0 and 1.0 from strings of + and -."""
    return torch.tensor([[1.0 if bit == "+" else -1.0 for bit in row] for row in rows], dtype=torch.float64)


def random_signs(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


def model(
    num_bits: int = 3, num_heads: int = 1, capacity: int = 10, eta: float = 1.0, **settings: object
) -> AttentionDAM:
    return AttentionDAM(num_bits, num_heads, capacity, eta, **settings).double()  # type: ignore[arg-type]


def by_loops(dam: AttentionDAM, query: Tensor, memory: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For one query and every n: mass of +1, and mass on the query itself; one term for every copy in memory."""
    a, b, heads, bits = dam.A_logits, dam.B_logits, dam.num_heads, dam.num_bits
    out = []
    for n in range(bits):
        weights = []
        for chi in memory:
            score = torch.zeros((), dtype=torch.float64)
            for h in range(heads):
                row = a[h] if dam.tied else a[n, h]
                phihat = sum((row[i].exp() * query[i] for i in range(n)), score * 0)
                phihat = phihat / sum((row[i].exp() for i in range(n)), score * 0) if n else phihat
                phi = sum(b[h, j].exp() * chi[j] for j in range(bits)) / b[h].exp().sum()
                score = score + dam.eta * phihat * phi / (heads if dam.score_scale == "mean" else 1)
            weights.append(score.exp())
        total = torch.stack(weights).sum()
        plus = sum((w for w, chi in zip(weights, memory, strict=True) if chi[n] > 0), total * 0)
        own = sum((w for w, chi in zip(weights, memory, strict=True) if (chi == query).all()), total * 0)
        out.append((plus / total, own / total))
    return out


def loss_by_loops(dam: AttentionDAM, queries: Tensor, memory: list[Tensor]) -> Tensor:
    terms = []
    for query in queries:
        for n, (plus, own) in enumerate(by_loops(dam, query, memory)):
            if n == 0 and not dam.include_first_bit:
                continue
            if dam.loss_kind == "infonce":
                terms.append(-own.log() if any((query == chi).all() for chi in memory) else own * 0)
            else:
                terms.append(-(plus if query[n] > 0 else 1 - plus).log())
    return torch.stack(terms).mean()


def test_two_sequences_uniform_weights() -> None:
    dam = model()
    dam.push(signs("+++", "+--"))
    high, low = 0.7913914727, 0.2086085273
    expected = torch.tensor([[1, high, high], [1, high, 0.5], [1, low, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(dam(signs("+++", "+--", "-++")), expected, atol=1e-10, rtol=0)


def test_gradient_of_two_sequences() -> None:
    dam = model()
    dam.push(signs("+++", "+--"))
    loss = dam.loss(signs("+--"))
    loss.backward()
    assert dam.A_logits.grad is not None and dam.B_logits.grad is not None
    assert loss.item() == pytest.approx(1.1302215195, abs=1e-10)
    a, b = dam.A_logits.grad[2, 0], dam.B_logits.grad[0]
    torch.testing.assert_close(a, torch.tensor([1 / 6, -1 / 6, 0], dtype=torch.float64), **EXACT)
    expected = torch.tensor([-0.1758647717, 0.0879323859, 0.0879323859], dtype=torch.float64)
    torch.testing.assert_close(b, expected, atol=1e-10, rtol=0)
    assert not dam.A_logits.grad[:2].any()


def test_three_sequences_two_one_hot_heads() -> None:
    dam = model(num_bits=4, num_heads=2, eta=math.log(3) / 2)
    with torch.no_grad():
        dam.A_logits[:, 0, 0] = dam.A_logits[1, 1, 0] = FAR
        dam.A_logits[2:, 1, 1] = FAR
        dam.B_logits[0, 0] = dam.B_logits[1, 1] = FAR
    memory = signs("+++-", "+--+", "-+++")
    dam.push(memory)
    expected = [[2 / 3, 4 / 5, 4 / 5, 2 / 5], [2 / 3, 4 / 5, 4 / 13, 10 / 13], [2 / 3, 4 / 7, 12 / 13, 10 / 13]]
    torch.testing.assert_close(dam(memory), torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_a_copy_counts_as_often_as_it_is_queued() -> None:
    dam = model()
    dam.push(signs("+++", "+--", "+++"))
    assert dam(signs("+++"))[0, 1].item() == pytest.approx(0.8835494472, abs=1e-10)


def test_eta_from_frequency_to_best_match() -> None:
    memory = signs("+++", "+++", "+-+", "--+")
    cold, hot = model(eta=0.0), model(eta=1e4)
    for dam in (cold, hot):
        dam.push(memory)
    torch.testing.assert_close(cold(signs("-++"))[0], torch.tensor([0.75, 0.5, 1.0], dtype=torch.float64), **EXACT)
    assert hot(signs("+++"))[0, 1].item() == pytest.approx(1, abs=1e-9)  # +++ agrees best with a first +
    assert hot(signs("---"))[0, 1].item() == pytest.approx(0, abs=1e-9)  # --+ with a first -


@pytest.mark.parametrize(
    "num_heads, tied, score_scale, loss_kind, include_first_bit",
    [
        (1, False, "sum", "bce", False),
        (3, False, "sum", "bce", True),
        (6, False, "mean", "bce", False),
        (2, True, "mean", "bce", True),
        (1, False, "sum", "infonce", True),
        (6, True, "sum", "infonce", False),
    ],
)
def test_values_and_gradients_are_those_of_loops(
    num_heads: int, tied: bool, score_scale: str, loss_kind: str, include_first_bit: bool
) -> None:
    dam = model(
        num_bits=4,
        num_heads=num_heads,
        eta=1.5,
        tied=tied,
        score_scale=score_scale,
        loss_kind=loss_kind,
        include_first_bit=include_first_bit,
        init_std=1.0,
    )
    memory = random_signs(1, 6, 4)
    memory[3] = memory[0]
    queries = torch.cat([memory[:2], random_signs(2, 1, 4)])
    dam.push(memory)
    expected = torch.stack([torch.stack([plus for plus, _ in by_loops(dam, q, list(memory))]) for q in queries])
    torch.testing.assert_close(dam(queries), expected, **EXACT)
    loss, oracle = dam.loss(queries), loss_by_loops(dam, queries, list(memory))
    torch.testing.assert_close(loss, oracle, **EXACT)
    torch.testing.assert_close(dam.losses(queries)[:, dam.counted].mean(), oracle, **EXACT)
    for other in (oracle, dam.losses(queries)[:, dam.counted].mean()):
        for ours, theirs in zip(
            torch.autograd.grad(loss, list(dam.parameters()), retain_graph=True),
            torch.autograd.grad(other, list(dam.parameters())),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("loss_kind", ["bce", "infonce"])
def test_many_tiles_are_one(monkeypatch: pytest.MonkeyPatch, loss_kind: str) -> None:
    dam = model(num_bits=6, num_heads=2, eta=3.0, loss_kind=loss_kind, init_std=1.0, replicas=3, capacity=20)
    memory = random_signs(3, 3, 12, 6)
    dam.push(memory)
    queries = torch.cat([memory[:, :4], random_signs(4, 3, 1, 6)], dim=1)

    def measured() -> list[Tensor]:
        loss = dam.loss(queries)
        return [dam(queries), loss, *torch.autograd.grad(loss.sum(), list(dam.parameters()))]

    at_once = measured()
    monkeypatch.setattr("memlight.models.dam_memory._TILE_ENTRIES", {"cpu": 1})
    monkeypatch.setattr("memlight.models.dam._MOST_ENTRIES", 1)
    torch.testing.assert_close(measured(), at_once, **EXACT)
    with torch.no_grad():
        torch.testing.assert_close(dam(queries), at_once[0], **EXACT)


def test_scores_too_large_for_exponents() -> None:
    large, reference = model(eta=500.0), model(eta=5.0)
    assert large._shift and not reference._shift
    memory = random_signs(5, 6, 3)
    for dam in (large, reference):
        dam.push(memory)
    assert torch.isfinite(large.float()(memory.float())).all()
    unshifted = reference(memory)
    reference._shift = True
    torch.testing.assert_close(reference(memory), unshifted, **EXACT)


def test_flipping_all_bits_and_permuting_heads() -> None:
    dam = model(num_bits=6, num_heads=3, eta=2.0, init_std=1.0)
    flipped = model(num_bits=6, num_heads=3, eta=2.0, init_std=1.0)
    memory, queries = random_signs(6, 9, 6), random_signs(7, 4, 6)
    dam.push(memory)
    flipped.push(-memory)
    predicted = dam(queries)
    torch.testing.assert_close(flipped(-queries), 1 - predicted, **EXACT)
    with torch.no_grad():
        dam.A_logits.copy_(dam.A_logits[:, [2, 0, 1]])
        dam.B_logits.copy_(dam.B_logits[[2, 0, 1]])
    torch.testing.assert_close(dam(queries), predicted, **EXACT)


@pytest.mark.parametrize("loss_kind, first", [("bce", LN2), ("infonce", 0.0)])
def test_an_empty_memory_says_one_half(loss_kind: str, first: float) -> None:
    dam = model(loss_kind=loss_kind, init_std=1.0)
    queries = random_signs(8, 5, 3)
    for _ in range(2):
        assert (dam(queries) == 0.5).all()
        loss = dam.loss(queries)
        assert loss.item() == pytest.approx(first, abs=1e-15)
        loss.backward()
        assert dam.A_logits.grad is not None and not dam.A_logits.grad.any()
        dam.push(queries)
        assert (dam(queries)[:, 0] != 0.5).all()
        dam.clear()


def test_log_odds_are_clamped_and_their_gradient_is_zero_there() -> None:
    dam = model(init_std=1.0)
    dam.push(signs("+++"))
    assert pytest.approx(13.815510, abs=1e-6) == MAX_LOGIT
    assert (dam.logits(signs("+-+")) == MAX_LOGIT).all()
    for loss in (dam.loss(signs("+-+")), dam.losses(signs("+-+"))[:, 1:].mean()):
        assert loss.item() == pytest.approx((math.log1p(1e-6 / (1 - 1e-6)) + MAX_LOGIT) / 2, rel=1e-6)
        gradients = torch.autograd.grad(loss, list(dam.parameters()))
        assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("capacity", [1, 7, 40])
def test_fifo_is_a_deque(capacity: int) -> None:
    """Random batches, some larger than the queue, by bits or by number, with two tables and a clearing."""
    generator = torch.Generator().manual_seed(capacity)
    dam = model(num_bits=4, capacity=capacity, eta=2.0, init_std=1.0, replicas=2)
    queue: deque[Tensor] = deque(maxlen=capacity)
    query = random_signs(9, 2, 3, 4)
    table = torch.empty(0)
    for step in range(40):
        if step in (10, 30):
            table = (random_signs(step, 2, 6, 4) > 0).to(torch.uint8)
            dam.set_sequences(table)
        if step == 20:
            dam.clear()
            queue.clear()
        size = int(torch.randint(1, 12, (), generator=generator))
        if step >= 10 and step % 7:
            ids = torch.randint(0, 6, (2, size), generator=generator)
            batch = table[torch.arange(2)[:, None], ids].double() * 2 - 1
            dam.push_ids(ids)
        else:
            batch = torch.randint(0, 2, (2, size, 4), generator=generator).double() * 2 - 1
            dam.push(batch)
        queue.extend(batch.unbind(1))
        held = torch.stack(list(queue), dim=1)
        fresh = model(num_bits=4, capacity=capacity, eta=2.0, init_std=1.0, replicas=2)
        fresh.push(held)
        torch.testing.assert_close(dam(query), fresh(query), **EXACT)
        keys, _, counts = dam.memory.distinct()
        for member in range(2):
            kinds, number = held[member].unique(dim=0, return_counts=True)
            used = counts[member] > 0
            found = keys[member][used] if len(keys) > 1 else keys[0][used]
            order = torch.tensor(sorted(range(len(found)), key=lambda row: found[row].tolist()))
            assert found[order].tolist() == kinds.tolist()
            assert counts[member][used][order].tolist() == number.tolist()


@pytest.mark.parametrize("num_sequences", [20, 200])
def test_numbers_instead_of_bits_change_nothing(num_sequences: int) -> None:
    """With a table that fits the queue (counted as it goes) and one that does not (sorted); long sequences too."""
    table = (random_signs(10, 2, num_sequences, 70) > 0).to(torch.uint8)
    by_number, by_bits = (model(num_bits=70, capacity=50, eta=9.0, init_std=1.0, replicas=2) for _ in range(2))
    by_number.set_sequences(table)
    generator = torch.Generator().manual_seed(11)
    for _ in range(6):
        ids = torch.randint(0, num_sequences, (2, 16), generator=generator)
        batch = table[torch.arange(2)[:, None], ids].to(torch.int8) * 2 - 1
        torch.testing.assert_close(by_number.loss(batch), by_bits.loss(batch), **EXACT)
        by_number.remember(batch, ids)
        by_bits.remember(batch)
    assert len(by_number.memory.distinct()[0][0]) < 50


def test_memory_kept_over_a_switch_is_read_on_until_it_has_left() -> None:
    old, new = ((random_signs(seed, 1, 5, 8) > 0).to(torch.uint8) for seed in (12, 13))
    dam, plain = model(num_bits=8, capacity=12, eta=4.0), model(num_bits=8, capacity=12, eta=4.0)
    for step, table in enumerate([old] * 3 + [new] * 6):
        if step in (0, 3):
            dam.set_sequences(table[0])
        ids = torch.tensor([step % 5, (step + 2) % 5])
        dam.push_ids(ids)
        plain.push(table[0][ids].double() * 2 - 1)
        queries = torch.cat([old[0], new[0]]).double() * 2 - 1
        torch.testing.assert_close(dam(queries), plain(queries), **EXACT)
    assert len(dam.memory.distinct()[0][0]) == 5  # the new table alone


@pytest.mark.parametrize("table_first", [False, True])
def test_a_checkpoint_goes_on_bit_for_bit(table_first: bool) -> None:
    table = (random_signs(14, 1, 9, 6) > 0).to(torch.uint8)[0]
    generator = torch.Generator().manual_seed(15)
    batches = torch.randint(0, 9, (12, 4), generator=generator)

    def begun() -> tuple[AttentionDAM, torch.optim.Optimizer]:
        dam = AttentionDAM(6, 2, 20, 5.0, init_std=0.5)
        return dam, torch.optim.Adam(dam.parameters(), 0.01)

    def go(dam: AttentionDAM, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            bits = table[batches[step]].float() * 2 - 1
            optimizer.zero_grad()
            dam.loss(bits).backward()
            optimizer.step()
            dam.remember(bits, batches[step])

    whole, whole_optimizer = begun()
    whole.set_sequences(table)
    go(whole, whole_optimizer, range(7))
    again, again_optimizer = begun()
    saved = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    if table_first:
        again.set_sequences(table)
    again.load_state_dict(saved)
    if not table_first:
        again.set_sequences(table)
    again_optimizer.load_state_dict(deepcopy(whole_optimizer.state_dict()))
    go(whole, whole_optimizer, range(7, 12))
    go(again, again_optimizer, range(7, 12))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert torch.equal(whole.memory.distinct()[2], again.memory.distinct()[2])


@pytest.mark.parametrize("num_heads", [2, 9])
def test_a_replica_is_its_solo_run(num_heads: int) -> None:
    """After training steps, in float64; in float32 products of other sizes round differently."""
    seeds = (3, 11, 5)
    dam = model(num_bits=6, num_heads=num_heads, eta=4.0, init_std=1.0, replicas=3, seeds=seeds)
    data = random_signs(16, 3, 8, 6)
    optimizer = torch.optim.Adam(dam.parameters(), 0.05)
    solos = [model(num_bits=6, num_heads=num_heads, eta=4.0, init_std=1.0, seeds=[seed]) for seed in seeds]
    optimizers = [torch.optim.Adam(solo.parameters(), 0.05) for solo in solos]
    for step in range(4):
        batch = data[:, 2 * step : 2 * step + 2]
        optimizer.zero_grad()
        dam.loss(batch).sum().backward()
        optimizer.step()
        dam.push(batch)
        for member, (solo, its_optimizer) in enumerate(zip(solos, optimizers, strict=True)):
            its_optimizer.zero_grad()
            solo.loss(batch[member]).backward()
            its_optimizer.step()
            solo.push(batch[member])
    for member, solo in enumerate(solos):
        torch.testing.assert_close(dam.A_logits[member], solo.A_logits, atol=1e-10, rtol=0)
        torch.testing.assert_close(dam(data)[member], solo(data[member]), atol=1e-10, rtol=0)
        assert dam.retrieval_top1(data)[member] == solo.retrieval_top1(data[member])


def test_retrieval_finds_the_sequence_itself() -> None:
    dam = model(num_bits=4, num_heads=4, eta=100.0)
    with torch.no_grad():  # head h reads bit h, or the last one given
        dam.B_logits.copy_(torch.eye(4) * FAR)
        dam.A_logits.copy_(
            torch.stack([torch.eye(4)[[min(h, max(n - 1, 0)) for h in range(4)]] for n in range(4)]) * FAR
        )
    memory = signs("+++-", "---+", "+-+-")
    assert dam.retrieval_top1(memory).item() == 0
    dam.push(memory[:2])
    assert dam.retrieval_top1(memory[:2]).item() == 1
    assert dam.retrieval_top1(memory).item() == pytest.approx(2 / 3)


def test_weights_are_distributions_over_what_is_given() -> None:
    for tied in (False, True):
        dam = model(num_bits=5, num_heads=2, init_std=1.0, tied=tied)
        weights = dam.attention_weights()
        assert weights.shape == (5, 2, 5)
        assert not weights.triu(0).diagonal(dim1=0, dim2=2).any() and not weights[0].any()
        torch.testing.assert_close(weights.sum(-1)[1:], torch.ones(4, 2, dtype=torch.float64), **EXACT)
        torch.testing.assert_close(dam.feature_weights().sum(-1), torch.ones(2, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize(
    "settings, flag",
    [
        ({"capacity": 0}, "capacity=0"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"eta": math.nan}, "eta=nan"),
        ({"num_bits": 1}, "num_bits=1"),
        ({"score_scale": "max"}, "score_scale='max'"),
        ({"loss_kind": "mse"}, "loss_kind='mse'"),
        ({"replicas": 0}, "replicas=0"),
        ({"replicas": 2, "seeds": [1]}, "seeds: 1 seeds for 2 members"),
    ],
)
def test_impossible_settings_name_their_flag(settings: dict[str, object], flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        model(**settings)  # type: ignore[arg-type]


def test_wrong_shapes_and_numbers_without_a_table() -> None:
    with pytest.raises(ValueError, match=r"\(B, 3\) is needed"):
        model()(random_signs(0, 2, 4))
    with pytest.raises(ValueError, match=r"\(2, B, 3\) is needed"):
        model(replicas=2)(random_signs(0, 3, 4, 3))
    with pytest.raises(RuntimeError, match="set_sequences"):
        model().push_ids(torch.tensor([0]))


def test_shared_sequences_serve_all_members() -> None:
    dam = model(num_bits=4, replicas=3, init_std=1.0, capacity=8)
    table = (random_signs(17, 1, 6, 4) > 0).to(torch.uint8)
    dam.set_sequences(table)
    ids = torch.tensor([[0, 1], [2, 3], [4, 4]])
    dam.push_ids(ids)
    queries = table.double() * 2 - 1
    for member, solo in enumerate(model(num_bits=4, seeds=[seed], init_std=1.0, capacity=8) for seed in range(3)):
        solo.push(queries[0][ids[member]])
        torch.testing.assert_close(dam(queries)[member], solo(queries[0]), **EXACT)


@pytest.mark.parametrize("num_heads", [2, 9])
@pytest.mark.parametrize("scope", ["A", "B"])
def test_a_frozen_scope_leaves_the_gradient_of_the_other(num_heads: int, scope: str) -> None:
    dam = model(num_bits=6, num_heads=num_heads, eta=3.0, init_std=1.0)
    dam.push(random_signs(18, 7, 6))
    queries = random_signs(19, 4, 6)
    full = dict(zip(("A", "B"), torch.autograd.grad(dam.loss(queries), [dam.A_logits, dam.B_logits]), strict=True))
    for name in dam.names_in(scope):
        dam.get_parameter(name).requires_grad_(False)
    dam.loss(queries).backward()
    other = "B" if scope == "A" else "A"
    assert dam.get_parameter(f"{scope}_logits").grad is None
    torch.testing.assert_close(dam.get_parameter(f"{other}_logits").grad, full[other], **EXACT)
    dam.requires_grad_(False)
    assert not dam.loss(queries).requires_grad


def test_scopes_are_a_b_and_both() -> None:
    dam = model(init_std=1.0, replicas=2)
    assert dam.names_in("AB") == dam.names_in("A+B") == ("A_logits", "B_logits")
    before = dam.A_logits.clone()
    dam.shuffle_scope("B")
    assert torch.equal(dam.A_logits, before)
    dam.reset_scope("A")
    assert not torch.equal(dam.A_logits[0], dam.A_logits[1]) and not torch.equal(dam.A_logits, before)
    with pytest.raises(UserError, match="scope='C': AttentionDAM has no 'C'; scopes are A, B, AB"):
        dam.names_in("C")


@pytest.mark.parametrize("num_heads", [2, 9])
def test_mixed_precision_leaves_the_memory_exact(num_heads: int) -> None:
    dam = AttentionDAM(6, num_heads, 8, 10.0, init_std=1.0)
    dam.push(random_signs(20, 7, 6))
    queries = random_signs(21, 4, 6)
    exact = dam.loss(queries), dam(queries), dam.losses(queries), dam.retrieval_top1(queries)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = dam.loss(queries), dam(queries), dam.losses(queries), dam.retrieval_top1(queries)
    assert all(torch.equal(a, b) for a, b in zip(exact, mixed, strict=True))
