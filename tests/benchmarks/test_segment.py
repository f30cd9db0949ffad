from benchmarks import segment


def test_it_measures_images_of_which_some_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "SIDE", 48)
    monkeypatch.setattr(segment, "DISTINCT", 2)
    monkeypatch.setattr(segment, "MEMBERS", ("unet_d",))
    images = segment.draw_images(tmp_path, 5)
    contents = [path.read_bytes() for path in images]
    assert contents[0] == contents[2] == contents[4] != contents[1]
    found = segment.measure(images, "tiny")
    assert found["wall"] > 0
    assert found["cpu"] > 0
    assert all(10 < megabytes < 100_000 for megabytes in found["megabytes"])
