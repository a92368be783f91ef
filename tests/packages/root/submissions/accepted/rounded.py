print("%.9e" % float(input()) ** 0.5)
