print(400)
