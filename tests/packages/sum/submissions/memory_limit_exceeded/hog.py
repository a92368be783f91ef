numbers = bytearray(10**9)
print(sum(numbers))
