n = float(input())
print("yes" if n / 3 == n // 3 else "nope")
