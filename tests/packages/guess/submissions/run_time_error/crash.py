print(400, flush=True)
print(1 // (len(input()) - len("higher")) + 1 // 0)
