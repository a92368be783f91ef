input()
print("maybe")
