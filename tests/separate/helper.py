def check(x, y):
    assert x == y
